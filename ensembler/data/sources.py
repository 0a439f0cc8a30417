"""Where samples come from: built-in sources, folders and tables, every fault of a table named with its file and row."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ensembler.data import built_in
from ensembler.data.decoding import looks_like_image
from ensembler.data.images import IMAGE_SUFFIXES, ChosenImages, FileImages, Images
from ensembler.data.spec import BUILT_IN_SOURCES, DataSpec, FoldSpec
from ensembler.data.tables import TABLE_SUFFIXES, need_column, read_table
from ensembler.data.targets import derive, pattern_columns
from ensembler.errors import DataError, nearest
from ensembler.plain_text import check_plain_text
from ensembler.targets.label_sets import SetFormat, read_set
from ensembler.targets.natural_order import natural

MOST_NAMED = 8  # so many faults of one kind are named, the others counted


@dataclass(frozen=True)
class Fault:
    """Something that a run refuses, with the files that it is about."""

    code: str
    message: str
    files: tuple[str, ...] = ()


@dataclass(frozen=True)
class Remark:
    """Something that was done with the data on the way and deserves a line, with the files that it is about."""

    code: str
    message: str
    files: tuple[str, ...] = ()


@dataclass(frozen=True)
class Part:
    """Samples of the train part or the test part, not checked against each other yet."""

    table: pd.DataFrame
    images: Images
    where: str
    remarks: tuple[Remark, ...] = ()

    def choose(self, positions: Sequence[int]) -> Part:
        """The samples at some positions."""
        rows = list(positions)
        table = self.table.iloc[rows].reset_index(drop=True)
        return replace(self, table=table, images=ChosenImages(self.images, rows))


def read_source(
    data: DataSpec, folds: FoldSpec, faults: list[Fault] | None
) -> tuple[Part, Part | None, dict[str, tuple[str, ...]]]:
    """The train part, the test part if there is one, and the classes of targets whose source states them.

    With `faults` what can be read is read, and rows that cannot are noted there. Raises DataError
    with every fault.
    """
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
            f"data.source {data.source} does not exist; expected a folder, a CSV or Parquet file, "
            "or one of "
            f"{', '.join(BUILT_IN_SOURCES)}"
        )
    else:
        raise DataError(
            f"data.source {data.source} is neither a folder nor a table "
            f"({', '.join(TABLE_SUFFIXES)})"
        )
    if data.test is not None:
        if test is not None:
            raise DataError(
                "data.test is named, and data.source has a test part of its own; keep one"
            )
        test = read_test_part(Path(data.test), data, faults)
    return train, test, {}


def _built_in(data: DataSpec) -> tuple[Part, Part | None, dict[str, tuple[str, ...]]]:
    if len(data.target_names) != 1:
        raise DataError(
            f"{data.source} has one target; data.targets names {len(data.target_names)}"
        )
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
            f"multi_label: {what} one label for each image; name labels in a CSV manifest or by "
            "data.pattern"
        )


def _built_in_part(part: built_in.Part, target: str, classes: tuple[str, ...], source: str) -> Part:
    table = pd.DataFrame({"id": part.ids, "split": part.split, "source": part.split, "path": ""})
    table[target] = [classes[i] for i in part.labels]
    return Part(table, part.images, source)


# --- folders
# ---------------------------------------------------------------------------------------------------------


def _folder(path: Path, data: DataSpec) -> tuple[Part, Part | None]:
    if len(data.target_names) != 1:
        raise DataError(
            "a folder gives one target, its sub-folders; data.targets names "
            f"{len(data.target_names)}"
        )
    _check_single_label(data, "class folders have")
    for key in ("group", "split"):
        if getattr(data, key) is not None:
            raise DataError(f"data.{key} names a column, and a folder has none; use a CSV manifest")
    below = {p.name for p in sub_folders(path)}
    if "train" in below and below <= {"train", "test"}:
        test = _image_folder(path / "test", path, data, "test") if "test" in below else None
        return _image_folder(path / "train", path, data, "train"), test
    return _image_folder(path, path, data, "train"), None


def _folder_by_pattern(
    path: Path, data: DataSpec, folds: FoldSpec, faults: list[Fault] | None
) -> tuple[Part, Part | None]:
    files, others = find_images(path)
    _check_any(files, path)
    _check_names(files, path)
    table = pd.DataFrame({data.path: [str(file.relative_to(path)) for file in files]})
    table = pattern_columns(table, data, path, needed=True)
    train, test = _table_parts(
        table, path, data.model_copy(update={"root": str(path)}), folds, faults
    )
    return replace(train, remarks=(*left_out(path, others), *train.remarks)), test


def _image_folder(folder: Path, root: Path, data: DataSpec, split: str) -> Part:
    target = data.target_names[0]
    classes = sub_folders(folder)
    loose, others = find_images(folder, recursive=False)
    if not classes and split == "train":
        raise DataError(
            f"{folder} has no class folders; expected {folder.name}/CLASS/image.jpg, or use a CSV "
            "manifest"
        )
    if loose and classes:
        raise DataError(
            f"{loose[0]} lies beside the class folders of {folder}; move it into one of them"
        )
    files = list(loose)
    labels: list[str | None] = [None] * len(loose)
    for label in classes:
        images, no_images = find_images(label)
        if not images and split == "train":
            raise DataError(
                f"{folder}: class folder {label.name!r} has no images ({', '.join(IMAGE_SUFFIXES)})"
            )
        files += images
        labels += [label.name] * len(images)
        others += no_images
    _check_any(files, folder)
    _check_names(files, root)
    names = pd.Series([label for label in labels if label is not None], dtype=object)
    remarks = (*left_out(folder, others), *_spaces(names, target, folder))
    stripped = [None if label is None else label.strip() for label in labels]
    return _file_part(files, root, split, {target: stripped}, str(folder), remarks)


def sub_folders(folder: Path) -> list[Path]:
    """The folders in a folder of images by name, without hidden ones and without `artifacts`, where runs are kept."""
    return sorted(
        p
        for p in folder.iterdir()
        if p.is_dir() and not p.name.startswith(".") and not _holds_runs(p)
    )


def _holds_runs(folder: Path) -> bool:
    return any(folder.glob("*/recipe.lock.json")) or any(folder.glob(".cache/contents-*"))


def find_images(folder: Path, *, recursive: bool = True) -> tuple[list[Path], list[Path]]:
    """The images of a folder, and the files that are none.

    Hidden files and those of runs count as neither. A name that ends as those of images do is
    enough, and so is content that begins as an image does.
    """
    found = list(folder.iterdir())
    if recursive:
        runs = [p for p in found if p.is_dir() and _holds_runs(p)]
        found = [p for p in folder.rglob("*") if not any(p.is_relative_to(run) for run in runs)]
    # Natural order, so that 2.jpg stands before 10.jpg.
    shown_files = (p for p in found if p.is_file() and not _is_hidden(p, folder))
    files = sorted(shown_files, key=lambda p: natural(str(p)))
    images = [path for path in files if is_image_file(path)]
    kept = set(images)
    return images, [path for path in files if path not in kept]


def _is_hidden(path: Path, folder: Path) -> bool:
    """Whether a path below a folder, or a folder on the way to it, has a name that begins with a dot."""
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def is_image_file(path: Path) -> bool:
    """Whether a file is called, or begins, as an image."""
    return path.is_file() and (path.suffix.lower() in IMAGE_SUFFIXES or looks_like_image(path))


def left_out(folder: Path, files: Sequence[Path]) -> tuple[Remark, ...]:
    """What is to be said of files in a folder of images that are none."""
    if not files:
        return ()
    names = tuple(shown(str(path.relative_to(folder))) for path in files)
    many = f"{len(files)} files are no images and are left out, such as {min(names)}"
    message = many if len(files) > 1 else f"1 file is no image and is left out: {names[0]}"
    return (Remark("left_out", f"{folder}: {message}", names),)


def shown(name: str) -> str:
    """A name as a message shows it: bytes that are no text, and control characters, are written out."""
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _check_any(files: Sequence[Path], folder: Path) -> None:
    if not files:
        raise DataError(f"{folder} has no images ({', '.join(IMAGE_SUFFIXES)})")


def _check_names(files: Sequence[Path], root: Path) -> None:
    """Raise DataError for a name that no table of samples could hold."""
    names = [str(path.relative_to(root)) for path in files]
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise DataError(
                f"{shown(str(root))}: the name {os.fsencode(name)!r} is not UTF-8; rename the file "
                "or its folder"
            ) from error
    check_plain_text(names, "the name", str(root))


def _spaces(values: pd.Series, target: str, where: Path) -> list[Remark]:
    """A remark where some labels have spaces around them, which do not count.

    Where all have them it is a style.
    """
    spaced = values[values != values.str.strip()]
    if spaced.empty or len(spaced) == len(values):
        return []
    labels = "1 label" if len(spaced) == 1 else f"{len(spaced)} labels"
    message = (
        f"{where}: the spaces around {labels} of {target} are dropped, such as {spaced.iloc[0]!r}"
    )
    return [Remark("label_spaces", message)]


def _file_part(
    paths: list[Path],
    root: Path,
    split: str,
    columns: dict[str, list[Any]],
    where: str,
    remarks: tuple[Remark, ...],
) -> Part:
    ids = [str(p.relative_to(root)) for p in paths]
    table = pd.DataFrame({"id": ids, "split": split, "source": split, "path": ids, **columns})
    return Part(table, FileImages(paths), where, remarks)


# --- manifests
# -------------------------------------------------------------------------------------------------------


def _manifest(
    path: Path, data: DataSpec, folds: FoldSpec, faults: list[Fault] | None
) -> tuple[Part, Part | None]:
    table = pattern_columns(read_table(path, data), data, path, needed=True)
    return _table_parts(table, path, data, folds, faults)


def _table_parts(
    table: pd.DataFrame, path: Path, data: DataSpec, folds: FoldSpec, faults: list[Fault] | None
) -> tuple[Part, Part | None]:
    named: list[tuple[str, str | None]] = [("data.path", data.path)]
    named += [("data.targets", spec.column or target) for target, spec in data.target_specs.items()]
    named += [
        ("data.group", data.group),
        ("data.split", data.split),
        ("folds.column", folds.column),
    ]
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
        raise DataError(
            f"{path} row {row + 2}: {data.split} is {table[data.split][row]!r}, expected train or "
            "test"
        )
    train = _manifest_part(table[values == "train"], path, data, "train", folds.column, faults)
    test = table[values == "test"]
    return train, _manifest_part(test, path, data, "test", None, faults) if len(test) else None


def read_test_part(path: Path, data: DataSpec, faults: list[Fault] | None = None) -> Part:
    """The samples of a folder or table whose labels, and groups, may be missing."""
    if path.is_dir():
        return _test_folder(path, data)
    if path.suffix.lower() not in TABLE_SUFFIXES:
        raise DataError(
            f"{path} {'is neither a folder nor a table' if path.exists() else 'does not exist'}"
        )
    table = pattern_columns(read_table(path, data), data, path, needed=False)
    need_column(table, data.path, "data.path", path)
    if data.group is not None and data.group in table:
        return _manifest_part(table, path, data, "test", None, faults)
    return _manifest_part(
        table, path, data.model_copy(update={"group": None}), "test", None, faults
    )


def _test_folder(path: Path, data: DataSpec) -> Part:
    files, others = find_images(path)
    _check_any(files, path)
    _check_names(files, path)
    unknown: list[Any] = [None] * len(files)
    columns = dict.fromkeys(data.target_names, unknown)
    return _file_part(files, path, "test", columns, str(path), left_out(path, others))


def _manifest_part(
    table: pd.DataFrame,
    path: Path,
    data: DataSpec,
    split: str,
    fold_column: str | None,
    faults: list[Fault] | None,
) -> Part:
    rows = [int(i) + 2 for i in table.index]  # as an editor numbers them, the header being row 1
    table = table.reset_index(drop=True)
    problems: list[Fault] = []
    remarks: list[Remark] = []
    paths = _image_paths(table[data.path], rows, path, data, problems)
    out = pd.DataFrame(
        {"id": _ids(table, data, path), "split": split, "source": split, "path": table[data.path]}
    )
    for target, spec in data.target_specs.items():
        if split == "test" and spec.no_label == "":
            spec = spec.model_copy(
                update={"no_label": None}
            )  # an answer that is to be found is no empty answer
        wrong: list[str] = []  # of labels
        labels = derive(table, target, spec, rows, str(path), wrong)
        if split == "train" and data.unlabelled == "stop" and not wrong:
            empty = np.flatnonzero(labels[target].isna())
            hint = (
                " (no_label: '' says that this means none of the labels)"
                if spec.multi_label is not None
                else ""
            )
            unlabelled = _some(
                f"{path}: {spec.column or target} is empty{hint} in",
                [f"row {rows[i]}" for i in empty],
            )
            wrong += [fault.message for fault in unlabelled]
        if split == "train" and spec.set_format is not None and not wrong:
            wrong = _set_problems(
                table[spec.column or target].str.strip(), labels[target], spec.set_format, str(path)
            )
        problems += [Fault("data", problem) for problem in wrong]
        out = out.assign(**labels)
        column = spec.column or target
        if column in table and spec.multi_label is None:
            remarks += _spaces(table[column], column, path)
    if data.weight is not None and split == "train":
        out["weight"] = _sample_weights(table[data.weight], rows, path, data.weight, problems)
    if data.group is not None:
        groups = table[data.group].str.strip()
        problems += _some(
            f"{path}: {data.group} is empty in",
            [f"row {rows[i]}" for i in np.flatnonzero(groups == "")],
        )
        out["group"] = groups
    if fold_column is not None:
        out["fold_given"] = _fold_numbers(table[fold_column], rows, path, fold_column, problems)
    part = Part(out, FileImages(paths), str(path), tuple(remarks))
    if faults is not None:
        return _without_faults(part, problems, faults)
    if problems:
        raise DataError("\n".join(problem.message for problem in problems))
    return part


def _set_problems(values: pd.Series, sets: pd.Series, form: SetFormat, where: str) -> list[str]:
    """What says that sets of labels are written in another way than the recipe has it."""
    problems = []
    if max((len(read_set(text) or ()) for text in sets), default=0) < 2:
        problems.append(
            f"{where}: no row of {values.name} has two labels with {form.separator!r} between "
            "them, such as "
            f"{values.iloc[0]!r}; multi_label should be what stands between labels"
        )
    if form.no_label and not (values == form.no_label).any():
        names = nearest(form.no_label, sorted(set(values)), most=4)
        problems.append(
            f"{where}: no row of {values.name} is {form.no_label!r}, as no_label has it; {names}"
        )
    return problems


def _without_faults(part: Part, problems: Sequence[Fault], faults: list[Fault]) -> Part:
    """The part without rows whose image is not there or whose id stands twice.

    What is wrong is added to `faults`.
    """
    assert isinstance(part.images, FileImages)
    absent = np.array([not path.is_file() for path in part.images.paths], dtype=bool)
    names = tuple(part.table["path"][absent])
    for problem in problems:
        is_of_files = problem.code == "missing"
        faults.append(replace(problem, files=names) if is_of_files else problem)
    twice = part.table["id"].duplicated().to_numpy()
    if twice.any():
        message = (
            f"{part.where}: {int(twice.sum())} ids stand twice; name a unique column with data.id"
        )
        faults.append(Fault("data", message, tuple(part.table["path"][twice])))
    kept = np.flatnonzero(~absent & ~twice).tolist()
    if not kept:
        raise DataError(f"{part.where}: no row is left whose image can be found")
    return part.choose(kept)


def _ids(table: pd.DataFrame, data: DataSpec, path: Path) -> pd.Series:
    if data.id is not None:
        need_column(table, data.id, "data.id", path)
        return table[data.id].str.strip()
    if "id" not in table:
        return table[data.path].str.strip()
    need_column(table, "id", "data.id", path)
    return table["id"].str.strip()


def _image_paths(
    column: pd.Series,
    rows: Sequence[int],
    manifest: Path,
    data: DataSpec,
    problems: list[Fault],
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
    problems += _some(
        f"{manifest}: the path leads outside {root} (data.allow_outside: true allows it) in",
        outside,
    )
    problems += _some(f"{manifest}: there is no such image under {root} in", missing, "missing")
    return paths


def _fold_numbers(
    column: pd.Series,
    rows: Sequence[int],
    path: Path,
    name: str,
    problems: list[Fault],
) -> pd.Series:
    numbers = pd.to_numeric(column.str.strip(), errors="coerce")
    wrong = numbers.isna() | (numbers % 1 != 0) | (numbers < -1)
    faulty = [f"row {rows[i]} ({column[i]!r})" for i in np.flatnonzero(wrong).tolist()]
    problems += _some(f"{path}: {name} should be a fold number from 0 (or -1) in", faulty)
    return numbers.fillna(-1).astype(np.int64)


def _sample_weights(
    column: pd.Series, rows: Sequence[int], path: Path, name: str, problems: list[Fault]
) -> pd.Series:
    numbers = pd.to_numeric(column.str.strip(), errors="coerce")
    wrong = np.flatnonzero(numbers.isna() | (numbers < 0) | np.isinf(numbers))
    problems += _some(
        f"{path}: {name} should be a weight from 0 in", [f"row {rows[i]}" for i in wrong.tolist()]
    )
    return numbers


def _some(what: str, places: Sequence[str], code: str = "data") -> list[Fault]:
    if not places:
        return []
    more = f" and {len(places) - MOST_NAMED} more" if len(places) > MOST_NAMED else ""
    return [Fault(code, f"{what} {', '.join(places[:MOST_NAMED])}{more}")]
