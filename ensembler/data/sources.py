"""Where samples come from: built-in sources, folders and tables.

Every fault of a table is named with its file and row.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from ensembler.data import built_in
from ensembler.data.faults import Fault
from ensembler.data.folders import paths_as_table, read_class_folders, read_test_folder
from ensembler.data.labels import check_single_label
from ensembler.data.manifests import read_manifest_parts, read_test_rows
from ensembler.data.parts import SourcePart
from ensembler.data.patterns import pattern_columns
from ensembler.data.spec import BUILT_IN_SOURCES, DataSpec, FoldSpec
from ensembler.data.tables import TABLE_SUFFIXES, need_column, read_table
from ensembler.errors import DataError


class Source(NamedTuple):
    """What was read: the train part, the test part if there is one, and known classes.

    Classes are those of targets whose source defines them.
    """

    train: SourcePart
    test: SourcePart | None
    classes: dict[str, tuple[str, ...]]


def read_source(data: DataSpec, folds: FoldSpec, faults: list[Fault] | None) -> Source:
    """Read what a recipe names as its source, and as its test part.

    With `faults` what can be read is read, and rows that cannot are noted there. Raises DataError
    with every fault.
    """
    if data.source in BUILT_IN_SOURCES:
        return _read_built_in(data)
    train, test = _read_parts(Path(data.source), data, folds, faults)
    if data.test is not None:
        if test is not None:
            raise DataError(
                "data.test is named, and data.source has a test part of its own; keep one"
            )
        test = read_test_part(Path(data.test), data, faults)
    return Source(train, test, {})


def read_test_part(
    path: Path, data: DataSpec, faults: list[Fault] | None = None
) -> SourcePart:
    """The samples of a folder or table whose labels, and groups, may be missing."""
    if path.is_dir():
        return read_test_folder(path, data)
    if path.suffix.lower() not in TABLE_SUFFIXES:
        fault = "is neither a folder nor a table" if path.exists() else "does not exist"
        raise DataError(f"{path} {fault}")
    table = pattern_columns(read_table(path, data), data, path, needed=False)
    need_column(table, data.path, "data.path", path)
    return read_test_rows(table, path, data, faults)


def _read_parts(
    path: Path, data: DataSpec, folds: FoldSpec, faults: list[Fault] | None
) -> tuple[SourcePart, SourcePart | None]:
    if path.is_dir() and data.pattern is None:
        return read_class_folders(path, data)
    if path.is_dir():
        paths, remarks = paths_as_table(path, data)
        table = pattern_columns(paths, data, path, needed=True)
        of_folder = data.model_copy(update={"root": str(path)})
        train, test = read_manifest_parts(table, path, of_folder, folds, faults)
        return replace(train, remarks=(*remarks, *train.remarks)), test
    if path.suffix.lower() in TABLE_SUFFIXES:
        table = pattern_columns(read_table(path, data), data, path, needed=True)
        return read_manifest_parts(table, path, data, folds, faults)
    if not path.exists():
        raise DataError(
            f"data.source {data.source} does not exist; expected a folder, a CSV or Parquet file, "
            f"or one of {', '.join(BUILT_IN_SOURCES)}"
        )
    raise DataError(
        f"data.source {data.source} is neither a folder nor a table ({', '.join(TABLE_SUFFIXES)})"
    )


def _read_built_in(data: DataSpec) -> Source:
    if len(data.target_names) != 1:
        raise DataError(
            f"{data.source} has one target; data.targets names {len(data.target_names)}"
        )
    check_single_label(data, f"the built-in source {data.source} has")
    for key in ("group", "split", "test"):
        if getattr(data, key) is not None:
            raise DataError(
                f"data.{key} is not used with the built-in source {data.source}"
            )
    target = data.target_names[0]
    read = built_in.read_digits if data.source == "digits" else built_in.read_fashion_mnist
    parts, classes = read(data.root)
    made = [_built_in_part(part, target, classes, data.source) for part in parts]
    return Source(made[0], made[1] if len(made) > 1 else None, {target: classes})


def _built_in_part(
    part: built_in.BuiltInPart, target: str, classes: tuple[str, ...], source: str
) -> SourcePart:
    table = pd.DataFrame(
        {"id": part.ids, "split": part.split, "source": part.split, "path": ""}
    )
    table[target] = [classes[i] for i in part.labels]
    return SourcePart(table, part.images, source)
