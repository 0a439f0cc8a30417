"""From a source to samples: ids, labels, groups and images, every fault of a table named with its file and row."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ensembler.composition import Composition
from ensembler.data import built_in
from ensembler.data.images import IMAGE_SUFFIXES, ChosenImages, FileImages, Images, JoinedImages
from ensembler.data.spec import BUILT_IN_SOURCES, DataSpec, FoldSpec
from ensembler.data.tables import TABLE_SUFFIXES, need_column, read_table
from ensembler.data.targets import (
    compose,
    derive,
    has_label,
    label_names,
    pattern_columns,
    stated_order,
    unwanted_labels,
    unwanted_rows,
)
from ensembler.errors import DataError, nearest
from ensembler.label_sets import SetFormat, read_set, strata, without_labels

_MOST = 8  # so many faults of one kind are named, the others counted


@dataclass(frozen=True)
class SampleSet:
    """Samples with their images.

    `table` has a row for each sample: `id` (text, unique), `split` ("train" or "test"), `source` (as `split`), `path`,
    a column of label names for each target (None = unknown) and, when the recipe names them, `group` and `fold_given`.
    Row i is image i. `classes` holds each target's class names in their order. A composed class is the first target;
    `train:NAME` beside a target holds the labels to train on where they differ; `weight` the sample weights. The
    targets in `set_formats` are multi-label: their column holds sets of labels.
    """

    table: pd.DataFrame
    targets: tuple[str, ...]
    classes: dict[str, tuple[str, ...]]
    images: Images
    left_out: tuple[str, ...] = field(default=())
    composition: Composition | None = None
    set_formats: dict[str, SetFormat] = field(default_factory=dict)

    def labels_below(self, target: str) -> pd.Series:
        """The labels of a target with their rows as index; a row with several at once comes as often as it has any."""
        labels = self.table[target]
        if target in self.set_formats:
            labels = labels.map(read_set).explode()
        return labels.dropna()


@dataclass(frozen=True)
class Fault:
    """Something that a run refuses, with the files that it is about."""

    code: str
    message: str
    files: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Part:
    """Samples of the train part or the test part, not checked against each other yet."""

    table: pd.DataFrame
    images: Images
    where: str


def read_samples(data: DataSpec, folds: FoldSpec, faults: list[Fault] | None = None) -> SampleSet:
    """Read the samples that a recipe names, and check everything that needs no pixel.

    With `faults` what can be read is read: rows that a run would refuse are left out and noted there.

    Raises DataError with every fault found: missing columns and images, ids that stand twice, labels that are empty or
    only in the test part, a single class, paths that leave their root.
    """
    train, test, classes = _read_source(data, folds, faults)
    train = _keep(train, data)
    unwanted = unwanted_rows(train.table, data)
    if unwanted.any():
        train = _choose(train, np.flatnonzero(~unwanted).tolist())
    for name, gone in unwanted_labels(train.table, data).items():
        for part in (train,) if test is None else (train, test):
            part.table[name] = [without_labels(text, gone) for text in part.table[name]]
    if data.limit is not None:
        train = _limit(train, data, data.limit)
    if test is not None and data.test_limit is not None:
        test = _choose(test, _drawn(len(test.table), data.test_limit))
    parts = [train] if test is None else [train, test]
    table = pd.concat([part.table for part in parts], ignore_index=True)
    _check_ids(table, data)
    sets = data.set_formats
    classes = {
        name: classes.get(name)
        or stated_order(spec)
        or _class_order(label_names(train.table[name], multi_label=name in sets))
        for name, spec in data.target_specs.items()
    }
    if data.classes is not None:
        classes[data.target_names[0]] = data.classes
    for name, spec in data.target_specs.items():
        table[name] = table[name].astype(object).where(table[name].notna() & ~table[name].isin(spec.drop), None)
    _check_labels(table, train, classes, sets, faults)
    composition = None
    if data.composition is not None:
        table, composition = compose(table, data, classes, table["split"] == "train")
        classes = {composition.name: composition.classes, **classes}
    images = parts[0].images if len(parts) == 1 else JoinedImages([part.images for part in parts])
    return SampleSet(table, data.label_names, classes, images, composition=composition, set_formats=sets)


def drop_samples(samples: SampleSet, ids: Iterable[str]) -> SampleSet:
    """The samples without those named."""
    out = set(ids)
    kept = np.flatnonzero(~samples.table["id"].isin(out).to_numpy())
    gone = tuple(i for i in samples.table["id"] if i in out)
    return replace(
        samples,
        table=samples.table.iloc[kept].reset_index(drop=True),
        images=ChosenImages(samples.images, kept.tolist()),
        left_out=(*samples.left_out, *gone),
    )


def read_unlabelled(source: Path, data: DataSpec) -> tuple[list[str], Images]:
    """Ids and images of new samples in a folder or a manifest (its columns named as in the recipe)."""
    part = _test_part(source, data.model_copy(update={"root": None, "group": None}))
    ids = part.table["id"].tolist()
    if len(set(ids)) != len(ids):
        twice = next(i for n, i in enumerate(ids) if i in ids[:n])
        raise DataError(f"{source}: id {twice!r} stands twice; ids are unique")
    return ids, part.images


def _read_source(
    data: DataSpec, folds: FoldSpec, faults: list[Fault] | None
) -> tuple[_Part, _Part | None, dict[str, tuple[str, ...]]]:
    if data.source in BUILT_IN_SOURCES:
        return _built_in(data)
    path = Path(data.source)
    if path.is_dir() and data.pattern is not None:
        train, test = _folder_by_pattern(path, data, folds, faults)
    elif path.is_dir():
        train, test = _folder(path, data)
    elif path.suffix.lower() in TABLE_SUFFIXES:
        train, test = _manifest(path, data, folds, faults)
    elif not path.exists():
        raise DataError(
            f"data.source {data.source} does not exist; expected a folder, a CSV or Parquet file, or one of "
            f"{', '.join(BUILT_IN_SOURCES)}"
        )
    else:
        raise DataError(f"data.source {data.source} is neither a folder nor a table ({', '.join(TABLE_SUFFIXES)})")
    if data.test is not None:
        if test is not None:
            raise DataError("data.test is named, and data.source has a test part of its own; keep one")
        test = _test_part(Path(data.test), data, faults)
    return train, test, {}


def _built_in(data: DataSpec) -> tuple[_Part, _Part | None, dict[str, tuple[str, ...]]]:
    if len(data.target_names) != 1:
        raise DataError(f"{data.source} has one target; data.targets names {len(data.target_names)}")
    _check_single_label(data, f"the built-in source {data.source} has")
    for key in ("group", "split", "test"):
        if getattr(data, key) is not None:
            raise DataError(f"data.{key} is not used with the built-in source {data.source}")
    target = data.target_names[0]
    read = built_in.read_digits if data.source == "digits" else built_in.read_fashion_mnist
    parts, classes = read(data.root)
    made = [_built_in_part(part, target, classes, data.source) for part in parts]
    return made[0], made[1] if len(made) > 1 else None, {target: classes}


def _check_single_label(data: DataSpec, what: str) -> None:
    if data.set_formats:
        raise DataError(
            f"multi_label: {what} one label for each image; name labels in a CSV manifest or by data.pattern"
        )


def _built_in_part(part: built_in.Part, target: str, classes: tuple[str, ...], source: str) -> _Part:
    table = pd.DataFrame({"id": part.ids, "split": part.split, "source": part.split, "path": ""})
    table[target] = [classes[i] for i in part.labels]
    return _Part(table, part.images, source)


# --- folders ---------------------------------------------------------------------------------------------------------


def _folder(path: Path, data: DataSpec) -> tuple[_Part, _Part | None]:
    if len(data.target_names) != 1:
        raise DataError(f"a folder gives one target, its sub-folders; data.targets names {len(data.target_names)}")
    _check_single_label(data, "class folders have")
    for key in ("group", "split"):
        if getattr(data, key) is not None:
            raise DataError(f"data.{key} names a column, and a folder has none; use a CSV manifest")
    below = {p.name for p in path.iterdir() if p.is_dir() and not p.name.startswith(".")}
    if "train" in below and below <= {"train", "test"}:
        test = _image_folder(path / "test", path, data, "test") if "test" in below else None
        return _image_folder(path / "train", path, data, "train"), test
    return _image_folder(path, path, data, "train"), None


def _folder_by_pattern(
    path: Path, data: DataSpec, folds: FoldSpec, faults: list[Fault] | None
) -> tuple[_Part, _Part | None]:
    files = _image_files(path)
    if not files:
        raise DataError(f"{path} has no images ({', '.join(IMAGE_SUFFIXES)})")
    table = pd.DataFrame({data.path: [str(file.relative_to(path)) for file in files]})
    table = pattern_columns(table, data, path, needed=True)
    return _table_parts(table, path, data.model_copy(update={"root": str(path)}), folds, faults)


def _image_folder(folder: Path, root: Path, data: DataSpec, split: str) -> _Part:
    target = data.target_names[0]
    classes = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    loose = _image_files(folder, recursive=False)
    if not classes and split == "train":
        raise DataError(f"{folder} has no class folders; expected {folder.name}/CLASS/image.jpg, or use a CSV manifest")
    if loose and classes:
        raise DataError(f"{loose[0]} lies beside the class folders of {folder}; move it into one of them")
    files: list[tuple[Path, str | None]] = [(path, label.name) for label in classes for path in _image_files(label)]
    files += [(path, None) for path in loose]
    empty = [label.name for label in classes if not _image_files(label)]
    if empty and split == "train":
        raise DataError(f"{folder}: class folder {empty[0]!r} has no images ({', '.join(IMAGE_SUFFIXES)})")
    if not files:
        raise DataError(f"{folder} has no images ({', '.join(IMAGE_SUFFIXES)})")
    return _file_part([p for p, _ in files], root, split, {target: [label for _, label in files]}, str(folder))


def _image_files(folder: Path, *, recursive: bool = True) -> list[Path]:
    found = folder.rglob("*") if recursive else folder.iterdir()
    # Natural order, so that 2.jpg stands before 10.jpg.
    return sorted((p for p in found if _is_image(p)), key=lambda p: _natural(str(p)))


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and path.is_file() and not path.name.startswith(".")


def _file_part(paths: list[Path], root: Path, split: str, columns: dict[str, list[Any]], where: str) -> _Part:
    ids = [str(p.relative_to(root)) for p in paths]
    table = pd.DataFrame({"id": ids, "split": split, "source": split, "path": ids, **columns})
    return _Part(table, FileImages(paths), where)


# --- manifests -------------------------------------------------------------------------------------------------------


def _manifest(path: Path, data: DataSpec, folds: FoldSpec, faults: list[Fault] | None) -> tuple[_Part, _Part | None]:
    table = pattern_columns(read_table(path, data), data, path, needed=True)
    return _table_parts(table, path, data, folds, faults)


def _table_parts(
    table: pd.DataFrame, path: Path, data: DataSpec, folds: FoldSpec, faults: list[Fault] | None
) -> tuple[_Part, _Part | None]:
    named: list[tuple[str, str | None]] = [("data.path", data.path)]
    named += [("data.targets", spec.column or target) for target, spec in data.target_specs.items()]
    named += [("data.group", data.group), ("data.split", data.split), ("folds.column", folds.column)]
    named += [("data.weight", data.weight)]
    for key, column in named:
        if column is not None:
            need_column(table, column, key, path)
    if data.split is None:
        return _manifest_part(table, path, data, "train", folds.column, faults), None
    values = table[data.split].str.strip().str.lower()
    strange = ~values.isin(["train", "test"])
    if strange.any():
        row = int(np.flatnonzero(strange)[0])
        raise DataError(f"{path} row {row + 2}: {data.split} is {table[data.split][row]!r}, expected train or test")
    train = _manifest_part(table[values == "train"], path, data, "train", folds.column, faults)
    test = table[values == "test"]
    return train, _manifest_part(test, path, data, "test", None, faults) if len(test) else None


def _test_part(path: Path, data: DataSpec, faults: list[Fault] | None = None) -> _Part:
    if path.is_dir():
        return _test_folder(path, data)
    if path.suffix.lower() not in TABLE_SUFFIXES:
        raise DataError(f"{path} {'is neither a folder nor a table' if path.exists() else 'does not exist'}")
    table = pattern_columns(read_table(path, data), data, path, needed=False)
    need_column(table, data.path, "data.path", path)
    if data.group is not None and data.group in table:
        return _manifest_part(table, path, data, "test", None, faults)
    return _manifest_part(table, path, data.model_copy(update={"group": None}), "test", None, faults)


def _test_folder(path: Path, data: DataSpec) -> _Part:
    files = _image_files(path)
    if not files:
        raise DataError(f"{path} has no images ({', '.join(IMAGE_SUFFIXES)})")
    unknown: list[Any] = [None] * len(files)
    return _file_part(files, path, "test", dict.fromkeys(data.target_names, unknown), str(path))


def _manifest_part(
    table: pd.DataFrame,
    path: Path,
    data: DataSpec,
    split: str,
    fold_column: str | None,
    faults: list[Fault] | None,
) -> _Part:
    rows = [int(i) + 2 for i in table.index]  # as an editor numbers them, the header being row 1
    table = table.reset_index(drop=True)
    problems: list[str] = []
    paths = _image_paths(table[data.path], rows, path, data, problems)
    out = pd.DataFrame({"id": _ids(table, data, path), "split": split, "source": split, "path": table[data.path]})
    for target, spec in data.target_specs.items():
        if split == "test" and spec.no_label == "":
            spec = spec.model_copy(update={"no_label": None})  # an answer that is to be found is no empty answer
        wrong: list[str] = []
        labels = derive(table, target, spec, rows, str(path), wrong)
        if split == "train" and data.unlabelled == "stop" and not wrong:
            empty = np.flatnonzero(labels[target].isna())
            hint = " (no_label: '' says that this means none of the labels)" if spec.multi_label is not None else ""
            wrong += _some(f"{path}: {spec.column or target} is empty{hint} in", [f"row {rows[i]}" for i in empty])
        problems += wrong
        out = out.assign(**labels)
    if data.weight is not None and split == "train":
        out["weight"] = _sample_weights(table[data.weight], rows, path, data.weight, problems)
    if data.group is not None:
        groups = table[data.group].str.strip()
        problems += _some(f"{path}: {data.group} is empty in", [f"row {rows[i]}" for i in np.flatnonzero(groups == "")])
        out["group"] = groups
    if fold_column is not None:
        out["fold_given"] = _fold_numbers(table[fold_column], rows, path, fold_column, problems)
    part = _Part(out, FileImages(paths), str(path))
    if faults is not None:
        return _without_faults(part, problems, faults)
    if problems:
        raise DataError("\n".join(problems))
    return part


def _without_faults(part: _Part, problems: Sequence[str], faults: list[Fault]) -> _Part:
    """The part without rows whose image is not there or whose id stands twice; what is wrong is added to `faults`."""
    assert isinstance(part.images, FileImages)
    absent = np.array([not path.is_file() for path in part.images.paths], dtype=bool)
    names = tuple(part.table["path"][absent])
    for problem in problems:
        code = "missing" if "there is no such image" in problem else "data"
        faults.append(Fault(code, problem, names if code == "missing" else ()))
    twice = part.table["id"].duplicated().to_numpy()
    if twice.any():
        message = f"{part.where}: {int(twice.sum())} ids stand twice; name a unique column with data.id"
        faults.append(Fault("data", message, tuple(part.table["path"][twice])))
    kept = np.flatnonzero(~absent & ~twice).tolist()
    if not kept:
        raise DataError(f"{part.where}: no row is left whose image can be found")
    return _choose(part, kept)


def _ids(table: pd.DataFrame, data: DataSpec, path: Path) -> pd.Series:
    if data.id is not None:
        need_column(table, data.id, "data.id", path)
        return table[data.id].str.strip()
    return table["id"].str.strip() if "id" in table else table[data.path].str.strip()


def _image_paths(
    column: pd.Series,
    rows: Sequence[int],
    manifest: Path,
    data: DataSpec,
    problems: list[str],
) -> list[Path]:
    root = os.path.abspath(data.root or manifest.parent)  # noqa: PTH100 links are not followed
    outside, missing, paths = [], [], []
    for row, given in zip(rows, column, strict=True):
        # Judged as written, before links are followed: `a/../../x` leaves its root whatever `a` is.
        full = os.path.normpath(Path(root) / given.strip())
        paths.append(Path(full))
        if not data.allow_outside and os.path.commonpath([root, full]) != root:
            outside.append(f"row {row} ({given})")
        elif not given.strip() or not Path(full).is_file():
            missing.append(f"row {row} ({given})")
    problems += _some(f"{manifest}: the path leads outside {root} (data.allow_outside: true allows it) in", outside)
    problems += _some(f"{manifest}: there is no such image under {root} in", missing)
    return paths


def _fold_numbers(
    column: pd.Series,
    rows: Sequence[int],
    path: Path,
    name: str,
    problems: list[str],
) -> pd.Series:
    numbers = pd.to_numeric(column.str.strip(), errors="coerce")
    wrong = numbers.isna() | (numbers % 1 != 0) | (numbers < -1)
    faulty = [f"row {rows[i]} ({column[i]!r})" for i in np.flatnonzero(wrong).tolist()]
    problems += _some(f"{path}: {name} should be a fold number from 0 (or -1) in", faulty)
    return numbers.fillna(-1).astype(np.int64)


def _sample_weights(column: pd.Series, rows: Sequence[int], path: Path, name: str, problems: list[str]) -> pd.Series:
    numbers = pd.to_numeric(column.str.strip(), errors="coerce")
    wrong = np.flatnonzero(numbers.isna() | (numbers < 0) | np.isinf(numbers))
    problems += _some(f"{path}: {name} should be a weight from 0 in", [f"row {rows[i]}" for i in wrong.tolist()])
    return numbers


def _some(what: str, places: Sequence[str]) -> list[str]:
    if not places:
        return []
    more = f" and {len(places) - _MOST} more" if len(places) > _MOST else ""
    return [f"{what} {', '.join(places[:_MOST])}{more}"]


# --- checks over both parts ------------------------------------------------------------------------------------------


def _check_ids(table: pd.DataFrame, data: DataSpec) -> None:
    if (table["id"] == "").any():
        raise DataError(f"an id is empty in row {int(np.flatnonzero(table['id'] == '')[0]) + 2} of {data.source}")
    twice = table["id"][table["id"].duplicated()].unique().tolist()
    if twice:
        shown = ", ".join(repr(i) for i in twice[:_MOST])
        raise DataError(
            f"{len(twice)} ids stand twice, such as {shown}; name a unique column with data.id, or remove the copies"
        )


def _check_labels(
    table: pd.DataFrame,
    train: _Part,
    classes: dict[str, tuple[str, ...]],
    sets: Collection[str],
    faults: list[Fault] | None,
) -> None:
    problems = []
    for target, names in classes.items():
        multi = target in sets
        found = label_names(train.table[target], multi_label=multi)
        problems += _lookalikes(target, sorted(found), train.where)
        strange = sorted(found - set(names), key=_natural)
        if strange:
            problems.append(
                f"{train.where}: {target} has labels that its classes do not name: {', '.join(strange[:_MOST])}; "
                "name them, or leave their rows out (data.keep, or drop of the target)"
            )
            if faults is not None:
                table.loc[has_label(table[target], strange, multi_label=multi), target] = None
        if len(found) == 1:
            problems.append(f"{train.where}: {target} has the one class {next(iter(found))!r}; two are needed to learn")
        elif not found:
            problems.append(f"{train.where}: {target} has no label at all")
        only_test = sorted(label_names(table[target], multi_label=multi) - found - set(strange), key=_natural)
        if only_test:
            message = (
                f"{target}: labels occur only in the test part: {', '.join(only_test[:_MOST])}; "
                f"train rows have {nearest(only_test[0], sorted(found))}"
            )
            if faults is None:
                problems.append(message)
            else:
                rows = has_label(table[target], only_test, multi_label=multi)
                faults.append(Fault("label_only_in_test", message, tuple(table["path"][rows])))
                table.loc[rows, target] = None
    if faults is not None:
        faults += [Fault("data", problem) for problem in problems]
    elif problems:
        raise DataError("\n".join(problems))


def _lookalikes(target: str, names: Sequence[str], where: str) -> list[str]:
    by_form: dict[str, list[str]] = {}
    for name in names:
        by_form.setdefault(" ".join(name.lower().split()), []).append(name)
    pairs = [" and ".join(repr(n) for n in same) for same in by_form.values() if len(same) > 1]
    return [f"{where}: labels of {target} differ only in case or spaces: {pairs[0]}; make them one"] if pairs else []


def _class_order(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted((str(name) for name in names), key=_natural))


def _natural(name: str) -> tuple[tuple[int, float, str], ...]:
    """Order in which numbers inside names count as numbers: 2 before 10."""
    try:
        return ((0, float(name), ""),)
    except ValueError:
        parts = re.split(r"(\d+)", name.lower())
        pieces = [(1, int(p), "") if p.isdecimal() else (2, 0, p) for p in parts]
        return (*pieces, (3, 0, name))


# --- choosing rows ---------------------------------------------------------------------------------------------------


def _choose(part: _Part, positions: Sequence[int]) -> _Part:
    return _Part(
        part.table.iloc[list(positions)].reset_index(drop=True), ChosenImages(part.images, list(positions)), part.where
    )


def _keep(part: _Part, data: DataSpec) -> _Part:
    if data.keep is None:
        return part
    labels = part.table[data.target_names[0]]
    absent = [name for name in data.keep if name not in set(labels.dropna())]
    if absent:
        raise DataError(
            f"data.keep names {absent[0]!r}, which no row has; {nearest(absent[0], labels.dropna().unique())}"
        )
    return _choose(part, np.flatnonzero(labels.isin(data.keep)).tolist())


def _drawn(n: int, most: int) -> list[int]:
    order = np.random.default_rng(0).permutation(n)[:most]
    return sorted(int(i) for i in order)


def _limit(part: _Part, data: DataSpec, most: int) -> _Part:
    """At most `most` rows, each class with its share, drawn with a fixed seed; sets count for their rarest label."""
    target = data.target_names[0]
    labels = part.table[target].to_numpy()
    if target in data.set_formats:
        labels = np.array(strata(labels.tolist(), 1), dtype=object)
    if most >= len(labels):
        return part
    rng = np.random.default_rng(0)
    rank = np.empty(len(labels))
    for name in pd.unique(labels):
        rows = np.flatnonzero(labels == name)
        rank[rng.permutation(rows)] = (np.arange(len(rows)) + 0.5) / len(rows)
    return _choose(part, sorted(np.argsort(rank, kind="stable")[:most].tolist()))
