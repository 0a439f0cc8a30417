"""Folders of images: one folder for each class, or files whose paths say what they show."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from ensembler.data.faults import Remark
from ensembler.data.image_files import check_image_files, find_images, left_out, sub_folders
from ensembler.data.images import IMAGE_SUFFIXES
from ensembler.data.labels import check_single_label, label_space_remarks
from ensembler.data.parts import SourcePart, part_of_files
from ensembler.data.spec import DataSpec
from ensembler.errors import DataError


def read_class_folders(path: Path, data: DataSpec) -> tuple[SourcePart, SourcePart | None]:
    """The train part of a folder with a sub-folder for each class, and its test part.

    There is a test part where the folders below it are called `train` and `test`.
    """
    if len(data.target_names) != 1:
        raise DataError(
            "a folder gives one target, its sub-folders; data.targets names "
            f"{len(data.target_names)}"
        )
    check_single_label(data, "class folders have")
    for key in ("group", "split"):
        if getattr(data, key) is not None:
            raise DataError(
                f"data.{key} names a column, and a folder has none; use a CSV manifest"
            )
    target, below = data.target_names[0], {p.name for p in sub_folders(path)}
    if "train" not in below or not below <= {"train", "test"}:
        return _read_part(path, path, target, "train"), None
    train = _read_part(path / "train", path, target, "train")
    test = _read_part(path / "test", path, target, "test") if "test" in below else None
    return train, test


def read_test_folder(path: Path, data: DataSpec) -> SourcePart:
    """All images of a folder, their labels unknown."""
    files, others = find_images(path)
    check_image_files(files, path, path)
    unknown: list[Any] = [None] * len(files)
    labels = dict.fromkeys(data.target_names, unknown)
    return part_of_files(files, path, "test", labels, path, left_out(path, others))


def paths_as_table(path: Path, data: DataSpec) -> tuple[pd.DataFrame, tuple[Remark, ...]]:
    """The images of a folder as the rows of a manifest."""
    files, others = find_images(path)
    check_image_files(files, path, path)
    table = pd.DataFrame({data.path: [str(file.relative_to(path)) for file in files]})
    return table, left_out(path, others)


@dataclass
class _Found:
    """Images with the names of the folders they are in, and the other files."""

    images: list[Path]
    labels: list[str | None]
    others: list[Path] = field(default_factory=list)


def _read_part(folder: Path, root: Path, target: str, split: str) -> SourcePart:
    found = _look_into(folder, split)
    check_image_files(found.images, folder, root)
    names = pd.Series([label for label in found.labels if label is not None], dtype=object)
    remarks = (
        *left_out(folder, found.others),
        *label_space_remarks(names, target, str(folder)),
    )
    labels = {target: [None if label is None else label.strip() for label in found.labels]}
    return part_of_files(found.images, root, split, labels, folder, remarks)


def _look_into(folder: Path, split: str) -> _Found:
    classes = sub_folders(folder)
    loose, others = find_images(folder, recursive=False)
    if not classes and split == "train":
        raise DataError(
            f"{folder} has no class folders; expected {folder.name}/CLASS/image.jpg, or use a CSV "
            "manifest"
        )
    if loose and classes:
        raise DataError(
            f"{loose[0]} is beside the class folders of {folder}; move it into one of them"
        )
    found = _Found(list(loose), [None] * len(loose), others)
    for label in classes:
        images, no_images = find_images(label)
        if not images and split == "train":
            raise DataError(
                f"{folder}: class folder {label.name!r} has no images ({', '.join(IMAGE_SUFFIXES)})"
            )
        found.images += images
        found.labels += [label.name] * len(images)
        found.others += no_images
    return found
