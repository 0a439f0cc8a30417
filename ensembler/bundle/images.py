"""The images that are to be predicted: files, folders, patterns, manifests, a list of paths."""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensembler.data.image_files import find_images
from ensembler.data.images import FileImages, Images
from ensembler.data.pixels import FilePixels
from ensembler.data.spec import DataSpec, InputSpec
from ensembler.data.tables import need_column, read_table
from ensembler.errors import DataError, ImageError
from ensembler.machine.cores import available_cores
from ensembler.plain_text import check_plain_text

MANIFESTS = (".csv", ".tsv", ".parquet", ".pq")
LIST = "-"  # a list of paths on standard input


@dataclass(frozen=True)
class AskedImages:
    """Images by the ids that their rows get, which are unique."""

    ids: tuple[str, ...]
    paths: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def images(self) -> FileImages:
        """The images themselves."""
        return FileImages(self.paths)

    def signs(self) -> list[str]:
        """A sign of each image, which changes when its file does."""
        return [_sign(path) for path in self.paths]


def _sign(path: Path) -> str:
    try:
        status = path.stat()
    except OSError:
        return f"{path}|missing"
    return f"{path}|{status.st_size}|{status.st_mtime_ns}"


def find_asked(
    given: Sequence[str],
    listed: Iterable[str] = (),
    *,
    path_column: str = "path",
    id_column: str | None = None,
) -> AskedImages:
    """The images that arguments name, in the order given, those of a folder in natural order.

    An argument is an image, a folder, a pattern such as `photos/*.jpg`, a manifest (CSV, Parquet),
    or `-` for the paths in `listed`. The id of an image is its path below the folder given, else
    its path as it was given; of a manifest it is its column of ids. Raises DataError for arguments
    that name no image, and ids that come twice.
    """
    found: list[tuple[str, Path]] = []
    for argument in given:
        if argument == LIST:
            found += _of_list(listed)
        elif Path(argument).is_dir():
            found += _of_folder(Path(argument), alone=len(given) == 1)
        elif Path(argument).suffix.lower() in MANIFESTS:
            found += _of_manifest(Path(argument), path_column, id_column)
        else:
            found += _of_pattern(argument)
    ids, paths = [name for name, _ in found], [path for _, path in found]
    _check_ids(ids)
    return AskedImages(tuple(ids), tuple(paths))


def _of_list(lines: Iterable[str]) -> Iterator[tuple[str, Path]]:
    for line in lines:
        name = line.rstrip("\r\n")
        if name.strip():
            yield name, Path(name)


def _of_folder(folder: Path, *, alone: bool) -> Iterator[tuple[str, Path]]:
    files, _ = find_images(folder)
    if not files:
        raise DataError(f"{folder} has no images")
    for path in files:
        yield str(path.relative_to(folder) if alone else path), path


def _of_manifest(
    path: Path, path_column: str, id_column: str | None
) -> Iterator[tuple[str, Path]]:
    table = read_table(path, DataSpec(source=str(path)))
    column = path_column if path_column in table else "path"
    need_column(table, column, "the paths of images", path)
    names = table[column].str.strip().tolist()
    ids = names
    for name in (id_column, "id"):
        if name is not None and name in table:
            ids = table[name].str.strip().tolist()
            break
    for row, (sample, name) in enumerate(zip(ids, names, strict=True), start=2):
        if not name:
            raise DataError(f"{path} row {row}: {column} is empty")
        yield sample, path.parent / name


def _of_pattern(argument: str) -> Iterator[tuple[str, Path]]:
    if Path(argument).exists():
        yield argument, Path(argument)
        return
    if not glob.has_magic(argument):
        raise DataError(f"{argument}: there is no such image or folder")
    names = sorted(glob.glob(argument, recursive=True))  # noqa: PTH207 a text with wildcards
    files = [name for name in names if Path(name).is_file()]
    if not files:
        raise DataError(f"no file matches {argument!r}")
    for name in files:
        yield name, Path(name)


def _check_ids(ids: Sequence[str]) -> None:
    if not ids:
        raise DataError("there is no image to predict")
    check_plain_text(ids, "the id", "the images")
    seen: set[str] = set()
    for name in ids:
        if name in seen:
            raise DataError(
                f"duplicate id {name!r}: every image must have an id of its own"
            )
        seen.add(name)


def refuse_broken(_: int, error: ImageError) -> None:
    """What to do with an image that cannot be read where there must be none."""
    raise error


@dataclass(frozen=True)
class AskedPixels:
    """Images prepared for one input whenever they are asked for, several at once.

    In the place of an image that cannot be read there are zeros, and `note` is told its position
    and what is wrong with it.
    """

    images: Images
    spec: InputSpec
    note: Callable[[int, ImageError], None]

    @property
    def shape(self) -> tuple[int, ...]:
        """`(images, height, width, channels)`."""
        return (len(self.images), *self.spec.shape)

    def __getitem__(self, rows: Any, /) -> NDArray[np.uint8]:
        """One image for a position, several for an array of positions or a slice."""
        if isinstance(rows, (int, np.integer)):
            return self._one(int(rows))
        chosen = np.arange(len(self.images))[rows].tolist()
        with ThreadPoolExecutor(available_cores()) as pool:
            found = list(pool.map(self._one, chosen))
        return np.stack(found) if found else np.zeros((0, *self.shape[1:]), np.uint8)

    def _one(self, i: int) -> NDArray[np.uint8]:
        try:
            return self._files[i]
        except ImageError as error:
            self.note(i, error)
            return np.zeros(self.shape[1:], np.uint8)

    @cached_property
    def _files(self) -> FilePixels:
        return FilePixels(self.images, self.spec)
