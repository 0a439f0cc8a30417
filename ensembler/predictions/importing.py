"""Predictions of any other tool become members of a run, checked once and matched by id."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ensembler.errors import RequestError
from ensembler.files import claim
from ensembler.plain_text import check_plain_text
from ensembler.predictions.arrays import array_sha256, write_array
from ensembler.predictions.import_files import array_shape, is_table, read_array, read_import_table
from ensembler.predictions.lock import RunLock
from ensembler.predictions.members import FORMAT, MEMBER_RECORD, Kind, MemberRecord
from ensembler.predictions.publish import clean_up, finish_replacement, prepared_replacement
from ensembler.predictions.records import read_record, write_record
from ensembler.predictions.samples import folds_astride, samples_csv, write_samples
from ensembler.predictions.store import RunStore, check_name
from ensembler.targets.label_sets import SetFormat, labels_in
from ensembler.targets.natural_order import in_natural_order, is_plain_number, text_after_numbers

# bytes of predictions held in memory; of more members the files are read a second time
MOST_HELD = 1_000_000_000
NO_CLASSES = (
    "id",
    "label",
    "fold",
    "group",
)  # columns of a table of predictions that are no classes
ROUNDING = 0.02  # by how much a row of probabilities may miss the sum 1 before it is an error


@dataclass(frozen=True)
class MemberFiles:
    """One member to import: its out-of-fold file, and its test file if it has one."""

    name: str
    oof: Path
    test: Path | None = None


@dataclass(frozen=True)
class Imported:
    """What was imported; `notes` say what was assumed or mended."""

    run: str
    members: tuple[str, ...]
    classes: tuple[str, ...]
    train_rows: int
    test_rows: int
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Rows:
    """The rows of one side: ids in order."""

    ids: list[str]
    where: str


@dataclass(frozen=True)
class _GivenRows:
    """Rows as files of the user name them, and these files."""

    table: pd.DataFrame
    labels: Path
    test: Path | None


@dataclass(frozen=True)
class _Arrays:
    """Predictions of one member: `oof` `[views, rows, classes]`, `test` `[folds, views, rows, classes]`."""

    oof: NDArray[np.float32]
    test: NDArray[np.float32]

    @property
    def n_bytes(self) -> int:
        """How much memory they take."""
        return self.oof.nbytes + self.test.nbytes


@dataclass
class _Importer:
    kind: Kind
    by_position: bool
    partial: bool
    set_format: SetFormat | None = None
    notes: list[str] = field(default_factory=list)


def parse_member(text: str) -> MemberFiles:
    """The member in "name=oof.npy" or "name=oof.npy,test.npy"."""
    name, separator, paths = text.partition("=")
    parts = [part.strip() for part in paths.split(",")]
    if not separator or not name or not all(parts) or len(parts) > 2:
        raise RequestError(
            f"--member {text!r}: expected NAME=OOF or NAME=OOF,TEST, files of .npy, .npz, .csv or "
            ".parquet"
        )
    return MemberFiles(
        check_name("member", name), Path(parts[0]), Path(parts[1]) if len(parts) == 2 else None
    )


def find_members(folder: Path, oof_pattern: str, test_pattern: str | None) -> list[MemberFiles]:
    """Members of a folder by file name; `{name}` in the patterns stands for the member's name."""
    for pattern in (oof_pattern, test_pattern):
        if pattern is not None and pattern.count("{name}") != 1:
            raise RequestError(
                f"pattern {pattern!r} should hold {{name}} once, such as '{{name}}_oof.npy'"
            )
    if not folder.is_dir():
        raise RequestError(f"--folder {folder} is not a folder")
    expression = re.compile(re.escape(oof_pattern).replace(re.escape("{name}"), "(.+)"))
    found = []
    for path in sorted(folder.iterdir()):
        match = expression.fullmatch(path.name)
        if match is None:
            continue
        test = folder / test_pattern.replace("{name}", match[1]) if test_pattern else None
        found.append(
            MemberFiles(
                check_name("member", match[1]), path, test if test and test.is_file() else None
            )
        )
    if not found:
        raise RequestError(f"{folder} has no file that fits {oof_pattern!r}")
    return found


def import_predictions(
    folder: Path,
    members: Sequence[MemberFiles],
    *,
    labels: Path | None = None,
    test_ids: Path | None = None,
    test_labels: Path | None = None,
    kind: Kind = "probs",
    classes: Sequence[str] | None = None,
    by_position: bool = False,
    partial: bool = False,
    set_format: SetFormat | None = None,
) -> Imported:
    """Make a run in `folder` out of predictions, or add members to the run that is there.

    `labels` has the columns id, label and perhaps fold and group; `test_ids` has id, `test_labels`
    id and label (which makes the holdout). With `set_format` the label column of a new run holds
    sets of labels. All members are checked before anything is written. Raises RequestError for what
    does not fit.
    """
    if not members:
        raise RequestError("name at least one member: --member NAME=oof.npy,test.npy, or --folder")
    if len({m.name for m in members}) != len(members):
        raise RequestError("two members have the same name")
    store = RunStore(folder)
    if store.samples_path.is_file():
        set_format = store.set_format(store.samples.targets[0])
    if set_format is not None and kind == "labels":
        raise RequestError(
            "--kind labels takes one label a row; of several at once give the probabilities"
        )
    work = _Importer(kind, by_position, partial, set_format)
    given = (
        _given_rows(members, labels, test_ids, test_labels, work) if labels is not None else None
    )
    rows = _rows_of_run(store, given, classes, members, work)
    # What fits into memory is read once; of the rest nothing but that it can be read is known when
    # writing begins.
    arrays: dict[str, _Arrays] = {}
    held = 0
    for member in members:
        read = _read_member(member, rows, work)
        _check_name_is_free(store, member.name, _record(member.name, read, rows, work))
        held += read.n_bytes
        if held <= MOST_HELD:
            arrays[member.name] = read
    if given is not None:
        _make_run(store, rows)
    clean_up(folder, store.lock_path)
    for member in members:
        read = (
            arrays.pop(member.name) if member.name in arrays else _read_member(member, rows, work)
        )
        _write(store, member.name, read, rows, work)
    names = tuple(member.name for member in members)
    counts = (len(rows.train.ids), len(rows.test.ids))
    return Imported(folder.name, names, rows.classes, *counts, tuple(dict.fromkeys(work.notes)))


# --- rows and labels
# -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _RunRows:
    """The rows that members are matched with: `table` as samples.csv has it, its target and the classes of that."""

    table: pd.DataFrame
    target: str
    classes: tuple[str, ...]
    set_format: SetFormat | None
    train: _Rows
    test: _Rows
    samples_sha256: str


def _given_rows(
    members: Sequence[MemberFiles],
    labels: Path,
    test_ids: Path | None,
    test_labels: Path | None,
    work: _Importer,
) -> _GivenRows:
    """The rows that the files of labels and test ids name."""
    train = _read_rows(labels, work, need_label=True)
    train = train.assign(split="train", fold=_folds(train, labels))
    astride = folds_astride(train)
    if astride is not None:
        raise RequestError(
            f"{labels}: group {astride!r} lies in several folds, so its rows are not out of fold; "
            "without the column "
            "'fold' or 'group' they are taken as they are"
        )
    parts = [train]
    path = test_labels or test_ids
    if path is not None:
        test = _read_rows(path, work, need_label=test_labels is not None)
        parts.append(test.assign(split="test", fold=-1))
    elif any(m.test for m in members):
        parts.append(_rows_by_count(members, work))
    table = pd.concat(parts, ignore_index=True)
    if "label" not in table:
        table["label"] = None
    twice = table["id"][table["id"].duplicated()]
    if len(twice):
        raise RequestError(
            f"id {twice.iloc[0]!r} stands twice in {labels} and its test rows; ids are unique in a "
            "run"
        )
    group = ["group"] if "group" in table else []
    return _GivenRows(table[["id", "split", "fold", "label", *group]], labels, path)


def _rows_of_run(
    store: RunStore,
    given: _GivenRows | None,
    classes: Sequence[str] | None,
    members: Sequence[MemberFiles],
    work: _Importer,
) -> _RunRows:
    """The rows of a run that is there, which those given have to be, or of the run that is to be made of them."""
    name = store.folder.name
    if not store.samples_path.is_file():
        if given is None:
            raise RequestError(
                f"{name} is a new run: name its rows with --labels labels.csv "
                "(id,label[,fold][,group])"
            )
        return _new_rows(given, _classes(members, given.table["label"], classes, work), work)
    target = store.samples.targets[0]
    known = store.classes(target)
    if classes is not None and tuple(classes) != known:
        raise RequestError(
            f"run {name!r} has the classes {', '.join(known[:6])}, in this order; leave out "
            "--classes"
        )
    where = str(store.samples_path)
    train, test = (part["id"].tolist() for part in (store.samples.train, store.samples.test))
    there = _RunRows(
        store.samples.table,
        target,
        known,
        work.set_format,
        _Rows(train, where),
        _Rows(test, where),
        store.samples_sha256,
    )
    if given is not None:
        _check_same_rows(name, there, _new_rows(given, known, work), given)
    return there


def _new_rows(given: _GivenRows, names: tuple[str, ...], work: _Importer) -> _RunRows:
    labels = given.table["label"]
    named: Any = _named(labels, names) if work.set_format is None else _known_sets(labels, names)
    table = given.table.assign(label=named)
    ids = {split: table["id"][table["split"] == split].tolist() for split in ("train", "test")}
    train, test = (
        _Rows(ids["train"], str(given.labels)),
        _Rows(ids["test"], str(given.test or "their rows")),
    )
    digest = hashlib.sha256(samples_csv(table)).hexdigest()
    return _RunRows(table, "label", names, work.set_format, train, test, digest)


def _check_same_rows(run: str, there: _RunRows, now: _RunRows, given: _GivenRows) -> None:
    """Raise RequestError when the rows that files name are not those of the run, in its order."""
    for split, path in (("train", given.labels), ("test", given.test)):
        if path is None:
            continue
        old, new = (
            rows.table[rows.table["split"] == split].reset_index(drop=True) for rows in (there, now)
        )
        same = old["id"].tolist() == new["id"].tolist()
        if same and new["label"].notna().any():
            same = old[there.target].fillna("").tolist() == new["label"].fillna("").tolist()
        if same and (new["fold"] > 0).any():
            same = old["fold"].tolist() == new["fold"].tolist()
        if not same:
            raise RequestError(
                f"run {run!r} is there, and the ids, labels or folds of {path} are not those of "
                f"its {split} rows; "
                "leave the file out to add members to the rows of the run, or give the new run "
                "another name"
            )


def _make_run(store: RunStore, rows: _RunRows) -> None:
    """Make the run, unless it is there: perhaps another process has made it in the meantime, of the same rows."""
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


def _rows_by_count(members: Sequence[MemberFiles], work: _Importer) -> pd.DataFrame:
    first = next(m for m in members if m.test)
    assert first.test is not None
    if is_table(first.test):
        ids = read_import_table(first.test)["id"].tolist()
    else:
        ids = [f"test-{i:06d}" for i in range(_rows_in(first.test, work.kind))]
    return pd.DataFrame({"id": ids, "split": "test", "fold": -1, "label": None})


def _read_rows(path: Path, work: _Importer, *, need_label: bool) -> pd.DataFrame:
    table = read_import_table(path)
    if "id" not in table:
        raise RequestError(f"{path} has no column 'id'; its columns are {', '.join(table.columns)}")
    if need_label and "label" not in table:
        raise RequestError(
            f"{path} has no column 'label'; its columns are {', '.join(table.columns)}"
        )
    if work.set_format is not None and "label" in table:
        table["label"] = _parsed(path, table["label"], work.set_format)
    for column in ("id", "label") if need_label else ("id",):
        empty = table[column].isna() | (table[column].astype(str).str.strip() == "")
        if empty.any():
            raise RequestError(f"{path} row {int(np.flatnonzero(empty)[0]) + 2}: {column} is empty")
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


# --- classes
# ---------------------------------------------------------------------------------------------------------


def _classes(
    members: Sequence[MemberFiles], labels: pd.Series, given: Sequence[str] | None, work: _Importer
) -> tuple[str, ...]:
    """Names of the classes of a new run: as given, as a CSV's header says, or as the labels are."""
    texts = labels.dropna().astype(str)
    _check_spaces(set(texts) if work.set_format is None else labels_in(texts))
    if given is not None and len(set(given)) != len(given):
        raise RequestError(f"--classes {','.join(given)}: a class is named twice")
    if given is not None:
        return tuple(given)
    for member in members:
        if is_table(member.oof) and work.kind != "labels":
            return tuple(c for c in read_import_table(member.oof).columns if c not in NO_CLASSES)
    found = sorted(
        set(texts) if work.set_format is None else labels_in(texts), key=text_after_numbers
    )
    count = len(found) if work.kind == "labels" else _columns_of(members[0].oof)
    if all(map(is_plain_number, found)) and int(found[-1]) < count:
        return tuple(str(i) for i in range(count))
    if len(found) != count:
        raise RequestError(
            f"{members[0].oof} has {count} classes, the labels have {len(found)} "
            f"({', '.join(found[:5])}, ...); "
            "say the order of columns with --classes a,b,c"
        )
    ordered = "as text" if in_natural_order(found) != tuple(found) else "by name"
    work.notes.append(
        f"columns are taken in the order of the labels {ordered}: {', '.join(found[:6])}; "
        "--classes says otherwise"
    )
    return tuple(found)


def _columns_of(path: Path) -> int:
    return _shape_with_classes(path)[-1]


def _rows_in(path: Path, kind: Kind) -> int:
    shape = array_shape(path)
    return shape[0] if kind == "labels" and len(shape) == 1 else _shape_with_classes(path)[-2]


def _check_spaces(names: Iterable[str]) -> None:
    """Raise RequestError for labels that differ by spaces alone, which nobody sees."""
    by_form: dict[str, str] = {}
    for name in sorted(names):
        other = by_form.setdefault(" ".join(name.split()), name)
        if other != name:
            raise RequestError(
                f"labels {other!r} and {name!r} differ only in spaces; make them one"
            )


def _shape_with_classes(path: Path) -> tuple[int, ...]:
    shape = array_shape(path)
    if len(shape) < 2:
        raise RequestError(
            f"{path} has shape {list(shape)}, expected [rows, classes]; --kind labels takes one "
            "label a row"
        )
    return shape


def _known_sets(sets: pd.Series, names: tuple[str, ...]) -> pd.Series:
    strange = sorted(labels_in(sets) - set(names))
    if strange:
        raise RequestError(f"label {strange[0]!r} is not a class ({', '.join(names[:6])})")
    return sets


def _named(labels: pd.Series, names: tuple[str, ...]) -> list[str | None]:
    known = set(names)
    values = [
        None if label is None or label == "" or label != label else str(label) for label in labels
    ]
    given = {v for v in values if v is not None}
    if given <= known:
        return values
    if all(_is_index(v, names) for v in given):
        return [None if v is None else names[int(v)] for v in values]
    strange = min(given - known, key=lambda v: (_is_index(v, names), v))
    raise RequestError(
        f"label {strange!r} is neither a class ({', '.join(names[:6])}) nor an index"
    )


def _is_index(text: str, names: Sequence[str]) -> bool:
    return is_plain_number(text) and len(text) < 10 and int(text) < len(names)


# --- predictions
# -----------------------------------------------------------------------------------------------------


def _read_member(member: MemberFiles, run: _RunRows, work: _Importer) -> _Arrays:
    train, test, names = run.train, run.test, run.classes
    oof = _rows_of(member.oof, train, names, work, axes="[views, rows, classes]", most=3)
    oof = oof if oof.ndim == 3 else oof[None]
    if member.test is None:
        if test.ids:
            raise RequestError(
                f"member {member.name!r} has no test file, and the run has {len(test.ids)} test "
                "rows"
            )
        return _Arrays(oof, np.empty((1, len(oof), 0, len(names)), np.float32))
    if not test.ids:
        raise RequestError(
            f"{member.test}: the run has no test rows; name them with --test-ids or --test-labels"
        )
    tests = _rows_of(member.test, test, names, work, axes="[folds, views, rows, classes]", most=4)
    if tests.ndim == 2:
        tests = tests[None, None]
    elif tests.ndim == 3:
        tests = tests[:, None]
    if tests.shape[1] != len(oof):
        tests = (
            np.broadcast_to(tests, (len(tests), len(oof), *tests.shape[2:]))
            if tests.shape[1] == 1
            else tests
        )
    if tests.shape[1] != len(oof):
        raise RequestError(f"{member.test} has {tests.shape[1]} views, {member.oof} has {len(oof)}")
    return _Arrays(oof, np.ascontiguousarray(tests))


def _rows_of(
    path: Path, rows: _Rows, names: tuple[str, ...], work: _Importer, *, axes: str, most: int
) -> NDArray[np.float32]:
    """Predictions of a file in the order of `rows` and `names`."""
    if is_table(path):
        array = _from_table(path, rows, names, work)
    else:
        shape = array_shape(path)
        if work.kind == "labels":
            shape = (_count_of_labels(path, shape), len(names))
        if not 2 <= len(shape) <= most:
            raise RequestError(
                f"{path} has shape {list(shape)}, expected [rows, classes] up to {axes}"
            )
        if shape[-1] != len(names):
            raise RequestError(
                f"{path} has {shape[-1]} classes on its last axis, expected {len(names)}"
            )
        if shape[-2] != len(rows.ids):
            raise RequestError(
                f"{path} has {shape[-2]} rows, {rows.where} has {len(rows.ids)}; "
                "are the files of OOF and test rows swapped?"
            )
        if not work.by_position:
            raise RequestError(
                f"{path} carries no ids; --by-position matches its rows with {rows.where} in "
                "order, if that is right"
            )
        work.notes.append("rows of .npy files are matched by position")
        array = read_array(path)
        array = _one_hot(path, array, names) if work.kind == "labels" else array
    return _checked(path, array, work)


def _count_of_labels(path: Path, shape: tuple[int, ...]) -> int:
    if len(shape) != 1 and shape[1:] != (1,):
        raise RequestError(f"{path} has shape {list(shape)}; --kind labels takes one label a row")
    return shape[0]


def _one_hot(path: Path, values: NDArray[Any], names: tuple[str, ...]) -> NDArray[np.float32]:
    index = {name: i for i, name in enumerate(names)}
    flat = values.reshape(_count_of_labels(path, values.shape)).tolist()
    texts = [str(int(v)) if isinstance(v, float) and v.is_integer() else str(v) for v in flat]
    given = set(texts)
    if given <= index.keys():
        codes = [index[text] for text in texts]
    elif all(_is_index(text, names) for text in given):
        codes = [int(text) for text in texts]
    else:
        row, text = next(
            (i, t) for i, t in enumerate(texts) if t not in index and not _is_index(t, names)
        )
        raise RequestError(f"{path} row {row}: label {text!r} is neither a class nor an index")
    return np.eye(len(names), dtype=np.float32)[codes]


def _from_table(
    path: Path, rows: _Rows, names: tuple[str, ...], work: _Importer
) -> NDArray[np.float32]:
    table = read_import_table(path)
    if "id" not in table:
        raise RequestError(
            f"{path} has no column 'id'; its columns are {', '.join(map(str, table.columns))}"
        )
    ids = table["id"].astype(str)
    if ids.duplicated().any():
        raise RequestError(f"{path}: id {ids[ids.duplicated()].iloc[0]!r} stands twice")
    values = (
        _label_columns(path, table, names)
        if work.kind == "labels"
        else _class_columns(path, table, names)
    )
    position = {sample: i for i, sample in enumerate(ids)}
    missing = [sample for sample in rows.ids if sample not in position]
    if missing and not work.partial:
        raise RequestError(
            f"{path} lacks {len(missing)} of the {len(rows.ids)} ids of {rows.where}, such as "
            f"{missing[0]!r}; "
            "--partial keeps the member with those rows missing"
        )
    if len(missing) == len(rows.ids):
        raise RequestError(
            f"{path} and {rows.where} have no id in common ({ids.iloc[0]!r} and {rows.ids[0]!r})"
        )
    out = np.full((len(rows.ids), len(names)), np.nan, np.float32)
    for i, sample in enumerate(rows.ids):
        if sample in position:
            out[i] = values[position[sample]]
    if missing:
        work.notes.append(f"{path.name}: {len(missing)} rows are missing")
    return out


def _class_columns(path: Path, table: pd.DataFrame, names: tuple[str, ...]) -> NDArray[np.float32]:
    columns = [str(c) for c in table.columns if str(c) not in NO_CLASSES]
    if set(columns) != set(names):
        odd = sorted(set(columns) ^ set(names))
        raise RequestError(
            f"{path}: its columns are not the classes of the run: {', '.join(odd[:5])} differ"
        )
    numbers = table[list(names)].apply(pd.to_numeric, errors="coerce")
    if numbers.isna().to_numpy().any():
        row = int(np.flatnonzero(numbers.isna().any(axis=1))[0])
        raise RequestError(f"{path} row {row + 2}: a prediction is empty or not a number")
    return numbers.to_numpy(np.float32)


def _label_columns(path: Path, table: pd.DataFrame, names: tuple[str, ...]) -> NDArray[np.float32]:
    if "label" not in table:
        raise RequestError(f"{path} has no column 'label', which --kind labels reads")
    return _one_hot(path, table["label"].astype(str).to_numpy(dtype=object), names)


def _checked(path: Path, array: NDArray[Any], work: _Importer) -> NDArray[np.float32]:
    if not np.issubdtype(array.dtype, np.number) or np.iscomplexobj(array):
        raise RequestError(f"{path} holds {array.dtype}, expected real numbers")
    values = array.astype(np.float32)
    present = ~np.isnan(values).all(axis=-1) if work.partial else np.ones(values.shape[:-1], bool)
    if not np.isfinite(values[present]).all():
        bad = np.argwhere(~np.isfinite(values).all(axis=-1) & present)[0]
        raise RequestError(
            f"{path} holds NaN or infinity, first in row {int(bad[-1])}; such a prediction says "
            "nothing"
        )
    if work.kind != "probs":
        return values
    shown = values[present]
    low, high = float(shown.min(initial=0)), float(shown.max(initial=0))
    if low < 0 or high > 1 + 1e-3:
        raise RequestError(
            f"{path} holds {low if low < 0 else high:g}, outside 0..1; say --kind logits if these "
            "are logits"
        )
    if work.set_format is not None:
        return np.clip(values, 0, 1)
    sums = shown.sum(axis=-1, dtype=np.float64)
    worst = float(np.abs(sums - 1).max(initial=0))
    if worst > ROUNDING:
        row = int(np.abs(sums - 1).argmax())
        raise RequestError(
            f"{path}: row {row} sums to {sums[row]:.3f}, probabilities sum to 1; say --kind logits "
            "if these "
            "are, or --multi-label SEP if rows have several labels at once"
        )
    if worst > 1e-4:
        work.notes.append(
            f"{path.name}: rows sum to {sums.min():.4f} .. {sums.max():.4f}, rounding; they were "
            "renormalised"
        )
    values[present] = (shown / sums[..., None]).astype(np.float32)
    return values


# --- writing
# ---------------------------------------------------------------------------------------------------------


def _record(name: str, arrays: _Arrays, rows: _RunRows, work: _Importer) -> MemberRecord:
    """What `member.json` will say."""
    views = ["identity"] if len(arrays.oof) == 1 else [f"view{i}" for i in range(len(arrays.oof))]
    sums = {"oof.npy": array_sha256(arrays.oof), "test.npy": array_sha256(arrays.test)}
    record = MemberRecord(
        format=FORMAT,
        name=name,
        target=rows.target,
        classes=rows.classes,
        views=tuple(views),
        folds=len(arrays.test),
        kind=work.kind,
        imported=True,
        partial=bool(np.isnan(arrays.oof).any()),
        scores={},
        sha256={**sums, "samples.csv": rows.samples_sha256},
    )
    if rows.set_format is None:
        return record
    return record.model_copy(update={"multi_label": (rows.target,)})


def _check_name_is_free(store: RunStore, name: str, record: MemberRecord) -> bool:
    """Whether the run lacks the member.

    False when it has this very one, RequestError when it has another.
    """
    path = store.member_folder(name) / MEMBER_RECORD
    if not path.is_file():
        return True
    if read_record(path, MemberRecord).to_json() == record.to_json():
        return False
    raise RequestError(
        f"run {store.folder.name!r} has a member {name!r} already, which is another one; give the "
        "new one another name"
    )


def _write(store: RunStore, name: str, arrays: _Arrays, rows: _RunRows, work: _Importer) -> None:
    """Write a member, unless this very one is there: from an import that was interrupted, or one at the same time."""
    record, folder = _record(name, arrays, rows, work), store.member_folder(name)
    with claim(store.lock_path, wait=True):
        finish_replacement(folder)
        if not _check_name_is_free(store, name, record):
            work.notes.append(
                f"member {name!r} is there already, with the same predictions; it was left as it is"
            )
            return
        with prepared_replacement(folder) as prepared:
            write_array(prepared / "oof.npy", arrays.oof)
            write_array(prepared / "test.npy", arrays.test)
            write_record(prepared / MEMBER_RECORD, record)
