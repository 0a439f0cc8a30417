"""Predictions of any other tool become members of a run, checked once and matched by id."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ensembler.errors import DataError, MissingExtraError, RequestError
from ensembler.files import write_json
from ensembler.label_sets import SetFormat, labels_in
from ensembler.natural_order import in_natural_order, is_plain_number, text_after_numbers
from ensembler.predictions.arrays import write_array
from ensembler.predictions.members import FORMAT, Kind, checksums
from ensembler.predictions.publish import clean_up, replacing
from ensembler.predictions.samples import folds_astride, write_samples
from ensembler.predictions.store import RunStore, check_name

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
            f"--member {text!r}: expected NAME=OOF or NAME=OOF,TEST, files of .npy, .npz, .csv or .parquet"
        )
    return MemberFiles(check_name("member", name), Path(parts[0]), Path(parts[1]) if len(parts) == 2 else None)


def find_members(folder: Path, oof_pattern: str, test_pattern: str | None) -> list[MemberFiles]:
    """Members of a folder by file name; `{name}` in the patterns stands for the member's name."""
    for pattern in (oof_pattern, test_pattern):
        if pattern is not None and pattern.count("{name}") != 1:
            raise RequestError(f"pattern {pattern!r} should hold {{name}} once, such as '{{name}}_oof.npy'")
    if not folder.is_dir():
        raise RequestError(f"--folder {folder} is not a folder")
    expression = re.compile(re.escape(oof_pattern).replace(re.escape("{name}"), "(.+)"))
    found = []
    for path in sorted(folder.iterdir()):
        match = expression.fullmatch(path.name)
        if match is None:
            continue
        test = folder / test_pattern.replace("{name}", match[1]) if test_pattern else None
        found.append(MemberFiles(check_name("member", match[1]), path, test if test and test.is_file() else None))
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

    `labels` has the columns id, label and perhaps fold and group; `test_ids` has id, `test_labels` id and label (which
    makes the holdout). With `set_format` the label column of a new run holds sets of labels. All members are checked
    before anything is written. Raises RequestError for what does not fit.
    """
    if not members:
        raise RequestError("name at least one member: --member NAME=oof.npy,test.npy, or --folder")
    if len({m.name for m in members}) != len(members):
        raise RequestError("two members have the same name")
    is_new = not (folder / "samples.csv").is_file()
    if not is_new:
        store = RunStore(folder)
        set_format = store.set_formats.get(store.samples.targets[0])
    if set_format is not None and kind == "labels":
        raise RequestError("--kind labels takes one label a row; of several at once give the probabilities")
    work = _Importer(kind, by_position, partial, set_format)
    table, target = _samples(folder, members, labels, test_ids, test_labels, is_new, work)
    train = _Rows(table["id"][table["split"] == "train"].tolist(), str(labels or folder / "samples.csv"))
    test = _Rows(table["id"][table["split"] == "test"].tolist(), str(test_ids or test_labels or folder / "samples.csv"))
    n_classes, names = _classes(folder, members, table[target], classes, is_new, work)
    arrays = {m.name: _read_member(m, train, test, names, n_classes, work) for m in members}
    if is_new:
        table[target] = _named(table[target], names) if set_format is None else _known_sets(table[target], names)
        folder.mkdir(parents=True, exist_ok=True)
        sets = {} if set_format is None else {target: set_format.to_json()}
        write_json(folder / "recipe.lock.json", {"format": 1, "classes": {target: list(names)}, "multi_label": sets})
        write_samples(folder / "samples.csv", table)
    store = RunStore(folder)
    clean_up(folder, store.lock_path)
    for name, (oof, tests) in arrays.items():
        _write(store, name, oof, tests, names, target, work)
    return Imported(folder.name, tuple(arrays), names, len(train.ids), len(test.ids), tuple(dict.fromkeys(work.notes)))


# --- rows and labels -------------------------------------------------------------------------------------------------


def _samples(
    folder: Path,
    members: Sequence[MemberFiles],
    labels: Path | None,
    test_ids: Path | None,
    test_labels: Path | None,
    is_new: bool,
    work: _Importer,
) -> tuple[pd.DataFrame, str]:
    if not is_new:
        store = RunStore(folder)
        taken = {m.name for m in members} & set(store.complete_members)
        if taken:
            raise RequestError(f"run {store.name!r} has a member {sorted(taken)[0]!r} already; give it another name")
        return store.samples.table, store.samples.targets[0]
    if labels is None:
        raise RequestError(
            f"{folder.name} is a new run: name its rows with --labels labels.csv (id,label[,fold][,group])"
        )
    train = _read_rows(labels, work, need_label=True)
    train = train.assign(split="train", fold=_folds(train, labels))
    astride = folds_astride(train)
    if astride is not None:
        raise RequestError(
            f"{labels}: group {astride!r} lies in several folds, so its rows are not out of fold; without the column "
            "'fold' or 'group' they are taken as they are"
        )
    parts = [train]
    if test_labels is not None or test_ids is not None:
        path = test_labels or test_ids
        assert path is not None
        test = _read_rows(path, work, need_label=test_labels is not None)
        parts.append(test.assign(split="test", fold=-1))
    elif any(m.test for m in members):
        parts.append(_rows_by_count(members))
    table = pd.concat(parts, ignore_index=True)
    if "label" not in table:
        table["label"] = None
    twice = table["id"][table["id"].duplicated()]
    if len(twice):
        raise RequestError(f"id {twice.iloc[0]!r} stands twice in {labels} and its test rows; ids are unique in a run")
    group = ["group"] if "group" in table else []
    return table[["id", "split", "fold", "label", *group]], "label"


def _rows_by_count(members: Sequence[MemberFiles]) -> pd.DataFrame:
    first = next(m for m in members if m.test)
    assert first.test is not None
    if first.test.suffix.lower() in (".csv", ".parquet"):
        ids = _read_table(first.test)["id"].tolist()
    else:
        ids = [f"test-{i:06d}" for i in range(_read_array(first.test).shape[-2])]
    return pd.DataFrame({"id": ids, "split": "test", "fold": -1, "label": None})


def _read_rows(path: Path, work: _Importer, *, need_label: bool) -> pd.DataFrame:
    table = _read_table(path)
    if "id" not in table:
        raise RequestError(f"{path} has no column 'id'; its columns are {', '.join(table.columns)}")
    if need_label and "label" not in table:
        raise RequestError(f"{path} has no column 'label'; its columns are {', '.join(table.columns)}")
    if work.set_format is not None and "label" in table:
        table["label"] = _parsed(path, table["label"], work.set_format)
    empty = table["label"].isin(["", None]) if need_label else np.zeros(len(table), bool)
    if empty.any():
        raise RequestError(f"{path} row {int(np.flatnonzero(empty)[0]) + 2}: label is empty")
    return table[[c for c in ("id", "label", "fold", "group") if c in table]]


def _parsed(path: Path, values: pd.Series, form: SetFormat) -> list[str | None]:
    sets: list[str | None] = []
    for row, value in enumerate(values, start=2):
        try:
            sets.append(None if value is None or value != value else form.parse(str(value)))
        except ValueError as error:
            raise RequestError(f"{path} row {row}: {error}, which the run's samples.csv cannot hold") from error
    return sets


def _folds(table: pd.DataFrame, path: Path) -> NDArray[np.int64]:
    if "fold" not in table:
        return np.zeros(len(table), np.int64)
    numbers = pd.to_numeric(table["fold"], errors="coerce")
    if numbers.isna().any() or (numbers % 1 != 0).any() or (numbers < 0).any():
        raise RequestError(f"{path}: fold should be a whole number from 0 in every row")
    return numbers.to_numpy(np.int64)


def _read_table(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise DataError(f"{path} does not exist")
    if path.suffix.lower() in (".parquet", ".pq"):
        try:
            table = pd.read_parquet(path)
        except ImportError as error:
            raise MissingExtraError(path.name, "parquet") from error
        return table.reset_index(drop=True).rename(columns=str).astype({c: str for c in table.columns if c == "id"})
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (ValueError, pd.errors.ParserError) as error:
        raise DataError(f"{path} is not a readable CSV ({error})") from error
    return table


# --- classes ---------------------------------------------------------------------------------------------------------


def _classes(
    folder: Path,
    members: Sequence[MemberFiles],
    labels: pd.Series,
    given: Sequence[str] | None,
    is_new: bool,
    work: _Importer,
) -> tuple[int, tuple[str, ...]]:
    """Number and names of the classes: as given, as the run has them, as a CSV's header says, or as the labels are."""
    if not is_new:
        store = RunStore(folder)
        names = store.classes(store.samples.targets[0])
        return len(names), names
    if given is not None:
        return len(given), tuple(given)
    for member in members:
        if member.oof.suffix.lower() in (".csv", ".parquet", ".pq") and work.kind != "labels":
            columns = tuple(c for c in _read_table(member.oof).columns if c not in ("id", "label", "fold", "group"))
            return len(columns), columns
    texts = labels.dropna().astype(str)
    found = sorted(set(texts) if work.set_format is None else labels_in(texts), key=text_after_numbers)
    count = len(found) if work.kind == "labels" else _columns_of(members[0].oof)
    if all(map(is_plain_number, found)) and int(found[-1]) < count:
        return count, tuple(str(i) for i in range(count))
    if len(found) != count:
        raise RequestError(
            f"{members[0].oof} has {count} classes, the labels have {len(found)} ({', '.join(found[:5])}, ...); "
            "say the order of columns with --classes a,b,c"
        )
    ordered = "as text" if in_natural_order(found) != tuple(found) else "by name"
    work.notes.append(
        f"columns are taken in the order of the labels {ordered}: {', '.join(found[:6])}; --classes says otherwise"
    )
    return count, tuple(found)


def _columns_of(path: Path) -> int:
    shape = _read_array(path).shape
    if len(shape) < 2:
        raise RequestError(
            f"{path} has shape {list(shape)}, expected [rows, classes]; --kind labels takes one label a row"
        )
    return int(shape[-1])


def _known_sets(sets: pd.Series, names: tuple[str, ...]) -> pd.Series:
    strange = sorted(labels_in(sets) - set(names))
    if strange:
        raise RequestError(f"label {strange[0]!r} is not a class ({', '.join(names[:6])})")
    return sets


def _named(labels: pd.Series, names: tuple[str, ...]) -> list[str | None]:
    known = set(names)
    values = [None if label is None or label == "" or label != label else str(label) for label in labels]
    given = {v for v in values if v is not None}
    if given <= known:
        return values
    if all(_is_index(v, names) for v in given):
        return [None if v is None else names[int(v)] for v in values]
    strange = min(given - known, key=lambda v: (_is_index(v, names), v))
    raise RequestError(f"label {strange!r} is neither a class ({', '.join(names[:6])}) nor an index")


def _is_index(text: str, names: Sequence[str]) -> bool:
    return is_plain_number(text) and len(text) < 10 and int(text) < len(names)


# --- predictions -----------------------------------------------------------------------------------------------------


def _read_member(
    member: MemberFiles, train: _Rows, test: _Rows, names: tuple[str, ...], n_classes: int, work: _Importer
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    oof = _rows_of(member.oof, train, names, work, axes="[views, rows, classes]", most=3)
    oof = oof if oof.ndim == 3 else oof[None]
    if member.test is None:
        if test.ids:
            raise RequestError(f"member {member.name!r} has no test file, and the run has {len(test.ids)} test rows")
        return oof, np.empty((1, len(oof), 0, n_classes), np.float32)
    if not test.ids:
        raise RequestError(f"{member.test}: the run has no test rows; name them with --test-ids or --test-labels")
    tests = _rows_of(member.test, test, names, work, axes="[folds, views, rows, classes]", most=4)
    if tests.ndim == 2:
        tests = tests[None, None]
    elif tests.ndim == 3:
        tests = tests[:, None]
    if tests.shape[1] != len(oof):
        tests = np.broadcast_to(tests, (len(tests), len(oof), *tests.shape[2:])) if tests.shape[1] == 1 else tests
    if tests.shape[1] != len(oof):
        raise RequestError(f"{member.test} has {tests.shape[1]} views, {member.oof} has {len(oof)}")
    return oof, np.ascontiguousarray(tests)


def _rows_of(
    path: Path, rows: _Rows, names: tuple[str, ...], work: _Importer, *, axes: str, most: int
) -> NDArray[np.float32]:
    """Predictions of a file in the order of `rows` and `names`."""
    if path.suffix.lower() in (".csv", ".parquet", ".pq"):
        array = _from_table(path, rows, names, work)
    else:
        array = _read_array(path)
        if work.kind == "labels":
            array = _one_hot(path, array, names)
        if not 2 <= array.ndim <= most:
            raise RequestError(f"{path} has shape {list(array.shape)}, expected [rows, classes] up to {axes}")
        if array.shape[-1] != len(names):
            raise RequestError(f"{path} has {array.shape[-1]} classes on its last axis, expected {len(names)}")
        if array.shape[-2] != len(rows.ids):
            raise RequestError(
                f"{path} has {array.shape[-2]} rows, {rows.where} has {len(rows.ids)}; "
                "are the files of OOF and test rows swapped?"
            )
        if not work.by_position:
            raise RequestError(
                f"{path} carries no ids; --by-position matches its rows with {rows.where} in order, if that is right"
            )
        work.notes.append("rows of .npy files are matched by position")
    return _checked(path, array, work)


def _read_array(path: Path) -> NDArray[Any]:
    try:
        loaded = np.load(path, allow_pickle=False)
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist") from error
    except (ValueError, OSError, EOFError) as error:
        pickled = "it needs pickle, which can run code; save it with np.save as plain numbers"
        hint = pickled if "pickle" in str(error) else str(error)
        raise RequestError(f"{path} cannot be read: {hint}") from error
    if isinstance(loaded, np.lib.npyio.NpzFile):
        keys = [k for k in loaded.files if k not in ("ids", "id")]
        if len(keys) != 1:
            raise RequestError(f"{path} holds {', '.join(loaded.files)}; expected one array")
        return np.asarray(loaded[keys[0]])
    return np.asarray(loaded)


def _one_hot(path: Path, values: NDArray[Any], names: tuple[str, ...]) -> NDArray[np.float32]:
    index = {name: i for i, name in enumerate(names)}
    flat = values.reshape(values.shape[0]) if values.ndim == 2 and values.shape[1] == 1 else values
    if flat.ndim != 1:
        raise RequestError(f"{path} has shape {list(values.shape)}; --kind labels takes one label a row")
    texts = [str(int(v)) if isinstance(v, float) and v.is_integer() else str(v) for v in flat.tolist()]
    given = set(texts)
    if given <= index.keys():
        codes = [index[text] for text in texts]
    elif all(_is_index(text, names) for text in given):
        codes = [int(text) for text in texts]
    else:
        row, text = next((i, t) for i, t in enumerate(texts) if t not in index and not _is_index(t, names))
        raise RequestError(f"{path} row {row}: label {text!r} is neither a class nor an index")
    return np.eye(len(names), dtype=np.float32)[codes]


def _from_table(path: Path, rows: _Rows, names: tuple[str, ...], work: _Importer) -> NDArray[np.float32]:
    table = _read_table(path)
    if "id" not in table:
        raise RequestError(f"{path} has no column 'id'; its columns are {', '.join(map(str, table.columns))}")
    ids = table["id"].astype(str)
    if ids.duplicated().any():
        raise RequestError(f"{path}: id {ids[ids.duplicated()].iloc[0]!r} stands twice")
    values = _label_columns(path, table, names) if work.kind == "labels" else _class_columns(path, table, names)
    position = {sample: i for i, sample in enumerate(ids)}
    missing = [sample for sample in rows.ids if sample not in position]
    if missing and not work.partial:
        raise RequestError(
            f"{path} lacks {len(missing)} of the {len(rows.ids)} ids of {rows.where}, such as {missing[0]!r}; "
            "--partial keeps the member with those rows missing"
        )
    if len(missing) == len(rows.ids):
        raise RequestError(f"{path} and {rows.where} have no id in common ({ids.iloc[0]!r} and {rows.ids[0]!r})")
    out = np.full((len(rows.ids), len(names)), np.nan, np.float32)
    for i, sample in enumerate(rows.ids):
        if sample in position:
            out[i] = values[position[sample]]
    if missing:
        work.notes.append(f"{path.name}: {len(missing)} rows are missing")
    return out


def _class_columns(path: Path, table: pd.DataFrame, names: tuple[str, ...]) -> NDArray[np.float32]:
    columns = [str(c) for c in table.columns if str(c) not in ("id", "label", "fold", "group")]
    if set(columns) != set(names):
        odd = sorted(set(columns) ^ set(names))
        raise RequestError(f"{path}: its columns are not the classes of the run: {', '.join(odd[:5])} differ")
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
    if not np.issubdtype(array.dtype, np.number):
        raise RequestError(f"{path} holds {array.dtype}, expected numbers")
    values = array.astype(np.float32)
    present = ~np.isnan(values).all(axis=-1) if work.partial else np.ones(values.shape[:-1], bool)
    if not np.isfinite(values[present]).all():
        bad = np.argwhere(~np.isfinite(values).all(axis=-1) & present)[0]
        raise RequestError(f"{path} holds NaN or infinity, first in row {int(bad[-1])}; such a prediction says nothing")
    if work.kind != "probs":
        return values
    shown = values[present]
    low, high = float(shown.min(initial=0)), float(shown.max(initial=0))
    if low < 0 or high > 1 + 1e-3:
        raise RequestError(
            f"{path} holds {low if low < 0 else high:g}, outside 0..1; say --kind logits if these are logits"
        )
    if work.set_format is not None:
        return np.clip(values, 0, 1)
    sums = shown.sum(axis=-1, dtype=np.float64)
    worst = float(np.abs(sums - 1).max(initial=0))
    if worst > ROUNDING:
        row = int(np.abs(sums - 1).argmax())
        raise RequestError(
            f"{path}: row {row} sums to {sums[row]:.3f}, probabilities sum to 1; say --kind logits if these "
            "are, or --multi-label SEP if rows have several labels at once"
        )
    if worst > 1e-4:
        work.notes.append(
            f"{path.name}: rows sum to {sums.min():.4f} .. {sums.max():.4f}, rounding; they were renormalised"
        )
    values[present] = (shown / sums[..., None]).astype(np.float32)
    return values


def _write(
    store: RunStore,
    name: str,
    oof: NDArray[np.float32],
    tests: NDArray[np.float32],
    names: tuple[str, ...],
    target: str,
    work: _Importer,
) -> None:
    with replacing(store.member_folder(name), store.lock_path) as prepared:
        write_array(prepared / "oof.npy", oof)
        write_array(prepared / "test.npy", tests)
        views = ["identity"] if len(oof) == 1 else [f"view{i}" for i in range(len(oof))]
        sums = checksums(prepared, ["oof.npy", "test.npy"]) | {"samples.csv": store.samples_sha256}
        record = {
            "format": FORMAT, "name": name, "target": target, "classes": list(names), "views": views,
            "folds": len(tests), "kind": work.kind, "imported": True, "partial": bool(np.isnan(oof).any()),
            "scores": {}, "sha256": sums,
            **({"multi_label": [target]} if work.set_format is not None else {}),
        }  # fmt: skip
        write_json(prepared / "member.json", record)
