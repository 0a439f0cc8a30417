"""The rows that predictions are matched with: of files, or of the run that is there."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ensembler.errors import RequestError
from ensembler.files import claim
from ensembler.plain_text import check_plain_text
from ensembler.predictions.importing.classes import (
    classes_of_new_run,
    known_sets,
    named_labels,
    rows_in,
)
from ensembler.predictions.importing.files import is_table, read_import_table
from ensembler.predictions.importing.options import ImportOptions, MemberFiles
from ensembler.predictions.lock import RunLock
from ensembler.predictions.records import write_record
from ensembler.predictions.samples import group_in_several_folds, samples_csv, write_samples
from ensembler.predictions.store import RunStore
from ensembler.targets.label_sets import SetFormat


@dataclass(frozen=True)
class Rows:
    """The rows of one side: ids in order."""

    ids: list[str]
    where: str


@dataclass(frozen=True)
class GivenRows:
    """Rows as files of the user name them, and these files."""

    table: pd.DataFrame
    labels: Path
    test: Path | None


@dataclass(frozen=True)
class RunRows:
    """The rows that members are matched with.

    `table` has the format of samples.csv; `classes` are those of `target`.
    """

    table: pd.DataFrame
    target: str
    classes: tuple[str, ...]
    set_format: SetFormat | None
    train: Rows
    test: Rows
    samples_sha256: str


def given_rows(
    members: Sequence[MemberFiles],
    labels: Path,
    test_ids: Path | None,
    test_labels: Path | None,
    options: ImportOptions,
) -> GivenRows:
    """The rows that the files of labels and test ids name."""
    train = _read_rows(labels, options, need_label=True)
    train = train.assign(split="train", fold=_folds(train, labels))
    group = group_in_several_folds(train)
    if group is not None:
        raise RequestError(
            f"{labels}: group {group!r} is in several folds, so its rows are not out of fold; "
            "remove the column 'fold' or 'group' to take them as they are"
        )
    parts = [train]
    path = test_labels or test_ids
    if path is not None:
        test = _read_rows(path, options, need_label=test_labels is not None)
        parts.append(test.assign(split="test", fold=-1))
    elif any(m.test for m in members):
        parts.append(_rows_by_count(members, options))
    table = pd.concat(parts, ignore_index=True)
    if "label" not in table:
        table["label"] = None
    twice = table["id"][table["id"].duplicated()]
    if len(twice):
        raise RequestError(
            f"duplicate id {twice.iloc[0]!r} in {labels} and its test rows; ids must be unique"
        )
    columns = ["id", "split", "fold", "label"]
    if "group" in table:
        columns.append("group")
    return GivenRows(table[columns], labels, path)


def rows_of_run(
    store: RunStore,
    given: GivenRows | None,
    classes: Sequence[str] | None,
    members: Sequence[MemberFiles],
    options: ImportOptions,
) -> RunRows:
    """The rows of a run: of an existing one, which those `given` must match, or of a new one.

    A new run is made from the rows given.
    """
    name = store.folder.name
    if not store.samples_path.is_file():
        if given is None:
            raise RequestError(
                f"{name} is a new run: name its rows with --labels labels.csv "
                "(id,label[,fold][,group])"
            )
        return _new_rows(
            given,
            classes_of_new_run(members, given.table["label"], classes, options),
            options,
        )
    target = store.samples.targets[0]
    known = store.classes(target)
    if classes is not None and tuple(classes) != known:
        raise RequestError(
            f"run {name!r} has the classes {', '.join(known[:6])}, in this order; leave out "
            "--classes"
        )
    where = str(store.samples_path)
    train, test = (
        part["id"].tolist() for part in (store.samples.train, store.samples.test)
    )
    there = RunRows(
        store.samples.table,
        target,
        known,
        options.set_format,
        Rows(train, where),
        Rows(test, where),
        store.samples_sha256,
    )
    if given is not None:
        _check_same_rows(name, there, _new_rows(given, known, options), given)
    return there


def _new_rows(given: GivenRows, names: tuple[str, ...], options: ImportOptions) -> RunRows:
    labels = given.table["label"]
    named: Any = (
        named_labels(labels, names)
        if options.set_format is None
        else known_sets(labels, names)
    )
    table = given.table.assign(label=named)
    ids = {
        split: table["id"][table["split"] == split].tolist() for split in ("train", "test")
    }
    train, test = (
        Rows(ids["train"], str(given.labels)),
        Rows(ids["test"], str(given.test or "their rows")),
    )
    digest = hashlib.sha256(samples_csv(table)).hexdigest()
    return RunRows(table, "label", names, options.set_format, train, test, digest)


def _check_same_rows(run: str, there: RunRows, now: RunRows, given: GivenRows) -> None:
    """Raise RequestError when the rows that files name are not those of the run, in its order."""
    for split, path in (("train", given.labels), ("test", given.test)):
        if path is None:
            continue
        old, new = (
            rows.table[rows.table["split"] == split].reset_index(drop=True)
            for rows in (there, now)
        )
        same = old["id"].tolist() == new["id"].tolist()
        if same and new["label"].notna().any():
            same = old[there.target].fillna("").tolist() == new["label"].fillna("").tolist()
        if same and (new["fold"] > 0).any():
            same = old["fold"].tolist() == new["fold"].tolist()
        if not same:
            raise RequestError(
                f"run {run!r} is there, and the ids, labels or folds of {path} are not "
                f"those of its {split} rows; leave the file out to add members to the rows "
                "of the run, or give the new run another name"
            )


def make_run(store: RunStore, rows: RunRows) -> None:
    """Make the run, unless it exists.

    Another process may have made it from the same rows in the meantime.
    """
    with claim(store.lock_path, wait=True):
        now = RunStore(store.folder)
        if now.samples_path.is_file():
            if (
                now.samples_sha256 != rows.samples_sha256
                or now.classes(rows.target) != rows.classes
            ):
                raise RequestError(
                    f"run {store.folder.name!r} was made of other rows in the meantime; give this "
                    "one another name"
                )
            return
        sets = {} if rows.set_format is None else {rows.target: rows.set_format}
        lock = RunLock(format=1, classes={rows.target: rows.classes}, multi_label=sets)
        write_record(store.recipe_lock_path, lock)
        write_samples(store.samples_path, rows.table)  # last: now the run exists


def _rows_by_count(members: Sequence[MemberFiles], options: ImportOptions) -> pd.DataFrame:
    first = next(m for m in members if m.test)
    assert first.test is not None
    if is_table(first.test):
        ids = read_import_table(first.test)["id"].tolist()
    else:
        ids = [f"test-{i:06d}" for i in range(rows_in(first.test, options.kind))]
    return pd.DataFrame({"id": ids, "split": "test", "fold": -1, "label": None})


def _read_rows(path: Path, options: ImportOptions, *, need_label: bool) -> pd.DataFrame:
    table = read_import_table(path)
    if "id" not in table:
        raise RequestError(
            f"{path} has no column 'id'; its columns are {', '.join(table.columns)}"
        )
    if need_label and "label" not in table:
        raise RequestError(
            f"{path} has no column 'label'; its columns are {', '.join(table.columns)}"
        )
    if options.set_format is not None and "label" in table:
        table["label"] = _parsed(path, table["label"], options.set_format)
    for column in ("id", "label") if need_label else ("id",):
        empty = table[column].isna() | (table[column].astype(str).str.strip() == "")
        if empty.any():
            raise RequestError(
                f"{path} row {int(np.flatnonzero(empty)[0]) + 2}: {column} is empty"
            )
    for column in [c for c in ("id", "label", "group") if c in table]:
        check_plain_text(table[column], column, str(path))
    return table[[c for c in ("id", "label", "fold", "group") if c in table]]


def _parsed(path: Path, values: pd.Series, form: SetFormat) -> list[str | None]:
    sets: list[str | None] = []
    for row, value in enumerate(values, start=2):
        try:
            sets.append(None if value is None or value != value else form.parse(str(value)))
        except ValueError as error:
            raise RequestError(
                f"{path} row {row}: {error}, which the run's samples.csv cannot hold"
            ) from error
    return sets


def _folds(table: pd.DataFrame, path: Path) -> NDArray[np.int64]:
    if "fold" not in table:
        return np.zeros(len(table), np.int64)
    numbers = pd.to_numeric(table["fold"], errors="coerce")
    if numbers.isna().any() or (numbers % 1 != 0).any() or (numbers < 0).any():
        raise RequestError(f"{path}: fold should be a whole number from 0 in every row")
    return numbers.to_numpy(np.int64)
