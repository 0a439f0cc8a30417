"""Tables with a row for each image: every fault is named with its file and row."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ensembler.data.columns import FEATURE_PREFIX, feature_cells
from ensembler.data.faults import Fault, Remark, faults_at
from ensembler.data.images import FileImages
from ensembler.data.labels import derive_labels, label_space_remarks
from ensembler.data.parts import SourcePart
from ensembler.data.spec import DataSpec, FoldSpec, TargetSpec
from ensembler.data.tables import need_column
from ensembler.errors import DataError


def read_manifest_parts(
    table: pd.DataFrame,
    path: Path,
    data: DataSpec,
    folds: FoldSpec,
    faults: list[Fault] | None,
) -> tuple[SourcePart, SourcePart | None]:
    """The train part of a table, and its test part when a column says which rows are which."""
    _check_columns(table, path, data, folds)
    if data.split is None:
        return _read_part(
            Rows.of(table, path, data, "train"), folds.manifest_column, faults
        ), None
    values = table[data.split].str.strip().str.lower()
    strange = np.flatnonzero(~values.isin(["train", "test"]))
    if len(strange):
        row = int(strange[0])
        raise DataError(
            f"{path} row {row + 2}: {data.split} is {table[data.split][row]!r}, expected train or "
            "test"
        )
    train = Rows.of(table[values == "train"], path, data, "train")
    test = Rows.of(table[values == "test"], path, data, "test")
    train_part = _read_part(train, folds.manifest_column, faults)
    return train_part, _read_part(test, None, faults) if len(test.table) else None


def read_test_rows(
    table: pd.DataFrame, path: Path, data: DataSpec, faults: list[Fault] | None
) -> SourcePart:
    """The rows of a table of test images, which may have no groups."""
    for name in data.feature_names:
        need_column(table, name, "data.features", path)
    if data.group is not None and data.group not in table:
        data = data.model_copy(update={"group": None})
    return _read_part(Rows.of(table, path, data, "test"), None, faults)


def _check_columns(
    table: pd.DataFrame, path: Path, data: DataSpec, folds: FoldSpec
) -> None:
    named: list[tuple[str, str | None]] = [("data.path", data.path)]
    named += [
        ("data.targets", spec.column or target)
        for target, spec in data.target_specs.items()
    ]
    named += [("data.group", data.group), ("data.split", data.split)]
    named += [("data.features", name) for name in data.feature_names]
    named += [("folds.column", folds.manifest_column), ("data.weight", data.weight)]
    for key, column in named:
        if column is not None:
            need_column(table, column, key, path)


@dataclass(frozen=True)
class Rows:
    """Rows of a table that become one part of the samples.

    `numbers` are those of an editor, the header being row 1; `table` is numbered from 0.
    """

    table: pd.DataFrame
    numbers: list[int]
    path: Path
    data: DataSpec
    split: str

    @classmethod
    def of(cls, table: pd.DataFrame, path: Path, data: DataSpec, split: str) -> Rows:
        """Some rows of a table that was read."""
        numbers = [int(i) + 2 for i in table.index]
        return cls(table.reset_index(drop=True), numbers, path, data, split)

    @property
    def is_train(self) -> bool:
        """Whether these are rows to train on."""
        return self.split == "train"

    def places(self, positions: Iterable[int]) -> list[str]:
        """How messages call rows."""
        return [f"row {self.numbers[i]}" for i in positions]

    @cached_property
    def root(self) -> str:
        """The folder that image paths start from."""
        return os.path.abspath(self.data.root or self.path.parent)  # noqa: PTH100 links are not followed

    @cached_property
    def image_paths(self) -> list[Path]:
        """The path of every image.

        As it is written, before links are followed: `a/../../x` leaves its root whatever `a` is.
        """
        given = self.table[self.data.path]
        return [Path(os.path.normpath(Path(self.root) / path.strip())) for path in given]


def _read_part(
    rows: Rows, fold_column: str | None, faults: list[Fault] | None
) -> SourcePart:
    """The samples of some rows.

    With `faults` those without a fault, and the faults are added there.
    """
    given = rows.table[rows.data.path]
    columns = {"id": _ids(rows), "split": rows.split, "source": rows.split, "path": given}
    table, found, remarks = pd.DataFrame(columns), _path_faults(rows), list[Remark]()
    for target, spec in rows.data.target_specs.items():
        labels, wrong = _labels(rows, target, spec)
        table = table.assign(**labels)
        found += wrong
        remarks += _space_remarks(rows, spec.column or target, spec)
    for name, (values, wrong) in _further_columns(rows, fold_column).items():
        table[name] = values
        found += wrong
    part = SourcePart(table, FileImages(rows.image_paths), str(rows.path), tuple(remarks))
    if faults is not None:
        return _without_faulty_rows(part, rows, found, faults)
    if found:
        raise DataError("\n".join(fault.message for fault in found))
    return part


def _ids(rows: Rows) -> pd.Series:
    column = rows.data.id
    if column is None:
        column = "id" if "id" in rows.table else rows.data.path
    if column != rows.data.path:
        need_column(rows.table, column, "data.id", rows.path)
    return rows.table[column].str.strip()


def _path_faults(rows: Rows) -> list[Fault]:
    """Image paths that lead out of their root, or nowhere."""
    outside, missing = [], []
    given = rows.table[rows.data.path]
    for place, path, full in zip(
        rows.places(range(len(given))), given, rows.image_paths, strict=True
    ):
        stays_inside = os.path.commonpath([rows.root, full]) == rows.root
        if not rows.data.allow_outside and not stays_inside:
            outside.append(f"{place} ({path})")
        elif not path.strip() or not full.is_file():
            missing.append(f"{place} ({path})")
    allowed = f"the path leads outside {rows.root} (data.allow_outside: true allows it)"
    return [
        *faults_at(f"{rows.path}: {allowed} in", outside),
        *faults_at(
            f"{rows.path}: there is no such image under {rows.root} in", missing, "missing"
        ),
    ]


def _labels(
    rows: Rows, target: str, spec: TargetSpec
) -> tuple[dict[str, pd.Series], list[Fault]]:
    """The columns of labels of one target, and what is wrong with them."""
    if not rows.is_train and spec.no_label == "":
        # an answer that is to be found is not an empty answer
        spec = spec.model_copy(update={"no_label": None})
    derived = derive_labels(rows.table, target, spec, rows.numbers, str(rows.path))
    faults = [Fault("data", problem) for problem in derived.problems]
    if rows.is_train and rows.data.unlabelled == "stop" and not faults:
        faults = _empty_labels(rows, target, spec, derived.labels[target])
    if rows.is_train and not faults:
        problems = derived.format_problems()
        faults = [Fault("data", problem) for problem in problems]
    return derived.labels, faults


def _empty_labels(
    rows: Rows, target: str, spec: TargetSpec, labels: pd.Series
) -> list[Fault]:
    hint = ""
    if spec.multi_label is not None:
        hint = " (no_label: '' says that this means none of the labels)"
    empty = rows.places(np.flatnonzero(labels.isna()))
    return faults_at(f"{rows.path}: {spec.column or target} is empty{hint} in", empty)


def _space_remarks(rows: Rows, column: str, spec: TargetSpec) -> list[Remark]:
    if column not in rows.table or spec.multi_label is not None:
        return []
    return label_space_remarks(rows.table[column], column, str(rows.path))


def _further_columns(
    rows: Rows, fold_column: str | None
) -> dict[str, tuple[pd.Series, list[Fault]]]:
    """Weights, groups and given folds by the name of their column, with what is wrong with them."""
    data, found = rows.data, {}
    if data.weight is not None and rows.is_train:
        found["weight"] = _weights(rows, data.weight)
    if data.group is not None:
        found["group"] = _groups(rows, data.group)
    for name in data.feature_names:
        cells = feature_cells(rows.table, name)
        wrong: list[Fault] = []
        if data.feature_kinds.get(name) == "number":
            wrong = _no_numbers(rows, name, cells)
        found[f"{FEATURE_PREFIX}{name}"] = cells, wrong
    if fold_column is not None:
        found["fold_given"] = _fold_numbers(rows, fold_column)
    return found


def _no_numbers(rows: Rows, column: str, cells: pd.Series) -> list[Fault]:
    wrong = np.flatnonzero((cells != "") & pd.to_numeric(cells, errors="coerce").isna())
    what = f"{rows.path}: {column} should be a number (data.features) in"
    return faults_at(what, rows.places(wrong))


def _weights(rows: Rows, column: str) -> tuple[pd.Series, list[Fault]]:
    numbers = _numbers(rows, column)
    wrong = np.flatnonzero(numbers.isna() | (numbers < 0) | np.isinf(numbers))
    what = f"{rows.path}: {column} should be a weight from 0 in"
    return numbers, faults_at(what, rows.places(wrong))


def _groups(rows: Rows, column: str) -> tuple[pd.Series, list[Fault]]:
    groups = rows.table[column].str.strip()
    empty = np.flatnonzero(groups == "")
    return groups, faults_at(f"{rows.path}: {column} is empty in", rows.places(empty))


def _fold_numbers(rows: Rows, column: str) -> tuple[pd.Series, list[Fault]]:
    numbers = _numbers(rows, column)
    wrong = np.flatnonzero(numbers.isna() | (numbers % 1 != 0) | (numbers < -1))
    given = rows.table[column]
    places = [
        f"{place} ({given[i]!r})"
        for place, i in zip(rows.places(wrong), wrong, strict=True)
    ]
    what = f"{rows.path}: {column} should be a fold number from 0 (or -1) in"
    return numbers.fillna(-1).astype(np.int64), faults_at(what, places)


def _numbers(rows: Rows, column: str) -> pd.Series:
    return pd.to_numeric(rows.table[column].str.strip(), errors="coerce")


def _without_faulty_rows(
    part: SourcePart, rows: Rows, found: list[Fault], faults: list[Fault]
) -> SourcePart:
    """The part without rows whose image is missing or whose id is a duplicate.

    What is wrong is added to `faults`.
    """
    absent = np.array([not path.is_file() for path in rows.image_paths], dtype=bool)
    files = tuple(part.table["path"][absent])
    for fault in found:
        faults.append(replace(fault, files=files) if fault.code == "missing" else fault)
    repeated = part.table["id"].duplicated().to_numpy()
    if repeated.any():
        faults.append(_duplicate_ids(part, repeated))
    kept = np.flatnonzero(~absent & ~repeated).tolist()
    if not kept:
        raise DataError(f"{part.where}: no row is left whose image can be found")
    return part.choose(kept)


def _duplicate_ids(part: SourcePart, repeated: NDArray[np.bool_]) -> Fault:
    n = int(repeated.sum())
    message = f"{part.where}: {n} duplicate ids; name a column of unique ones with data.id"
    return Fault("data", message, tuple(part.table["path"][repeated]))
