"""Pixels prepared once: every image decoded, scaled and kept as uint8 in one memory-mapped file.

All members, folds, epochs and processes read the same file; it is keyed by the images' content, by
the input they are prepared for and by the files behind its steps, so it is never stale, and a
checksum beside it tells whether it was altered. Deleting it costs time only. Where it would not
fit, images are decoded whenever they are asked for.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ensembler.data.decoding import Decoding
from ensembler.data.formats import max_pixels
from ensembler.data.images import Images, fit_to_input
from ensembler.data.pixel_key import pixels_key
from ensembler.data.prepare import build_steps, prepare
from ensembler.data.size import shown, sides
from ensembler.data.spec import InputSpec
from ensembler.errors import DataError, RequestError
from ensembler.files import claim, sha256_of, sweep, write_aside
from ensembler.machine.cores import available_cores
from ensembler.npy import mapped_into
from ensembler.progress import QUIET, Progress

_KEPT_FREE = 1 << 30  # bytes of the disk that the cache leaves to others
_BUDGET = "ENS_CACHE_GB"
_ALTERED = "was altered or cut short since it was written"


class Pixels(Protocol):
    """Prepared images by position, uint8 `[images, height, width, channels]`.

    They are an array, or files that are read like one.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """`(images, height, width, channels)`."""
        ...

    def __getitem__(self, rows: Any, /) -> NDArray[np.uint8]:
        """One image for a position, several for an array of positions."""
        ...


@dataclass(frozen=True)
class FilePixels:
    """Images prepared anew each time they are asked for, several at once."""

    images: Images
    spec: InputSpec

    @property
    def shape(self) -> tuple[int, ...]:
        """`(images, height, width, channels)`."""
        return (len(self.images), *self.spec.shape)

    def __getitem__(self, rows: Any, /) -> NDArray[np.uint8]:
        """One image for a position, several for an array of positions or a slice."""
        if isinstance(rows, (int, np.integer)):
            return self._prepare(int(rows))
        chosen = np.arange(len(self.images))[rows]
        with ThreadPoolExecutor(available_cores()) as pool:
            found = list(pool.map(self._prepare, chosen.tolist()))
        return np.stack(found) if found else np.zeros((0, *self.shape[1:]), np.uint8)

    def _prepare(self, i: int) -> NDArray[np.uint8]:
        is_reduced = self.spec.decode == "reduced"
        at_least = 2 * max(sides(self.spec.size)) if is_reduced else None
        image = prepare(
            self.images.read(i, Decoding(at_least, self.spec.bits)), self._steps
        )
        return fit_to_input(image, self.spec.size, self.spec.channels, self.spec.resize)

    @cached_property
    def _steps(self) -> Sequence[Any]:
        import cv2

        # one image a thread: OpenCV's own threads would only get in the way
        cv2.setNumThreads(0)
        return build_steps(self.spec.prepare)


@dataclass(frozen=True)
class PreparedPixels:
    """Prepared images, and by position what is wrong with those that are broken."""

    pixels: Pixels
    broken: dict[int, str]


def prepare_pixels(
    images: Images,
    spec: InputSpec,
    cache: Path,
    progress: Progress = QUIET,
) -> Pixels:
    """Return all images prepared, uint8 `[images, height, width, channels]`.

    They are memory-mapped from the cache. A cache may grow to `ENS_CACHE_GB` gigabytes (default:
    what the disk has, less one); images that do not fit are read from their files whenever they are
    asked for, which is noted on `progress`. Raises DataError naming every image that is broken.
    """
    prepared = _prepare(images, spec, cache, progress)
    if prepared.broken:
        raise DataError(describe_broken(prepared.broken))
    if isinstance(prepared.pixels, FilePixels):
        progress.note(
            f"{len(images)} prepared images take {_bytes(prepared.pixels.shape) / 1e9:.2f} "
            f"GB and {cache} has room for {_room(cache) / 1e9:.2f}: they are read from "
            "their files every time, which is slower; ENS_CACHE_GB sets the room, "
            "ENS_CACHE another folder"
        )
    return prepared.pixels


def are_prepared(images: Images, spec: InputSpec, cache: Path) -> bool:
    """Whether the cache holds all images prepared for an input."""
    path = _path(cache, spec, pixels_key(images, spec, cache))
    return isinstance(_open(path, images, spec), PreparedPixels)


def find_broken(
    images: Images,
    spec: InputSpec,
    cache: Path,
    progress: Progress = QUIET,
) -> dict[int, str]:
    """What is wrong with the images that cannot be read, by position; decoding fills the cache."""
    return _prepare(images, spec, cache, progress).broken


def decode_first(images: Images, spec: InputSpec, n: int) -> None:
    """Prepare the first `n` images for nothing, as all are prepared; broken ones are no error."""
    _fill(FilePixels(images, spec), None, QUIET, n)


def describe_broken(broken: dict[int, str]) -> str:
    """All images that cannot be read, in one message."""
    shown = [broken[i] for i in sorted(broken)[:20]]
    more = [f"... and {len(broken) - 20} more"] if len(broken) > 20 else []
    head = (
        f"{len(broken)} images cannot be read; repair them, "
        "or leave them out with data.on_broken: skip"
    )
    return "\n".join([head, *shown, *more])


def _prepare(
    images: Images,
    spec: InputSpec,
    cache: Path,
    progress: Progress,
) -> PreparedPixels:
    budget_of(_BUDGET)  # a wrong one is an error even when nothing has to be built
    key = pixels_key(images, spec, cache)
    path = _path(cache, spec, key)
    found = _open(path, images, spec)
    if isinstance(found, PreparedPixels):
        return found
    cache.mkdir(parents=True, exist_ok=True)
    # Two processes that start together decode once: the second waits and finds the file.
    with claim(path.with_suffix(".lock"), wait=True):
        sweep(cache)
        found = _open(path, images, spec)
        if isinstance(found, PreparedPixels):
            return found
        if found:
            progress.note(f"{path} {found}: images are decoded again")
        path.unlink(missing_ok=True)  # whoever has it open keeps it; it takes no more room
        files = FilePixels(images, spec)
        if _bytes(files.shape) <= _room(cache):
            _build(files, path, progress)
        else:
            _write_record(path, _fill(files, None, progress))
        found = _open(path, images, spec)
    assert isinstance(found, PreparedPixels), found
    return found


def _path(cache: Path, spec: InputSpec, key: str) -> Path:
    return cache / f"pixels-{shown(spec.size)}x{spec.channels}-{key}.npy"


def _bytes(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape, dtype=np.int64))


def _room(cache: Path) -> int:
    """By how many bytes the cache may grow."""
    budget = budget_of(_BUDGET)
    there = (
        cache if cache.is_dir() else next(p for p in cache.resolve().parents if p.is_dir())
    )
    free = max(0, shutil.disk_usage(there).free - _KEPT_FREE)
    if budget is None:
        return free
    taken = sum(path.stat().st_size for path in cache.glob("pixels-*.npy"))
    return max(0, min(free, budget - taken))


def budget_of(variable: str) -> int | None:
    """The bytes that an environment variable allows pixels, given in gigabytes.

    None when it is not set.
    """
    given = os.environ.get(variable)
    if given is None:
        return None
    try:
        gigabytes = float(given)
    except ValueError:
        gigabytes = -1.0
    if not 0 <= gigabytes < float("inf"):
        raise RequestError(
            f"{variable}={given!r}: expected gigabytes, such as 20, or 0 to keep no pixels there"
        )
    return int(gigabytes * 1e9)


def _open(path: Path, images: Images, spec: InputSpec) -> PreparedPixels | str:
    """The prepared images.

    Or, in words, why what is there cannot be used ("" = there is nothing yet).
    """
    files = FilePixels(images, spec)
    try:
        record = json.loads(path.with_suffix(".json").read_text())
        # Broken images are called by the names they have here.
        broken = {
            int(i): f"{images.name(int(i))}: {text}" for i, text in record["broken"].items()
        }
    except FileNotFoundError:
        return ""
    except (ValueError, KeyError, AttributeError):
        return _ALTERED
    if broken and record.get("max_pixels") != max_pixels():
        return "was made when images could have another number of pixels"
    if not path.is_file():
        # Nothing was kept where there was no room; where there is room now, it is.
        return (
            PreparedPixels(files, broken)
            if _bytes(files.shape) > _room(path.parent)
            else ""
        )
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (FileNotFoundError, ValueError, EOFError):
        return _ALTERED
    if (
        array.shape != files.shape
        or array.dtype != np.uint8
        or not _is_as_written(path, record)
    ):
        return _ALTERED
    return PreparedPixels(array, broken)


def _is_as_written(path: Path, record: dict[str, Any]) -> bool:
    """Whether the pixels are those that were written.

    They are read through when size, inode or times of the file have changed. Pixels that were
    written before there were checksums are taken as they are, once.
    """
    if record.get("file") == _stamp(path):
        return True
    found = sha256_of(path)
    if record.get("sha256", found) != found:
        return False
    # A cache that belongs to others, and is only read, is read through by every process.
    with contextlib.suppress(PermissionError):
        _write_record(path, record["broken"], found)
    return True


def _stamp(path: Path) -> list[int]:
    """What changes with every write to a file, and with every copy or move to another disk."""
    status = path.stat()
    return [status.st_size, status.st_ino, status.st_mtime_ns, status.st_ctime_ns]


def _build(files: FilePixels, path: Path, progress: Progress) -> None:
    with write_aside(path) as file:
        with mapped_into(file, files.shape, np.uint8) as array:
            broken = _fill(files, array, progress)
        written = sha256_of(Path(file.name))
    _write_record(path, broken, written)


def _write_record(path: Path, broken: Mapping[int, str], sha256: str | None = None) -> None:
    record: dict[str, Any] = {"broken": broken, "max_pixels": max_pixels()}
    if sha256 is not None:
        record |= {"sha256": sha256, "file": _stamp(path)}
    with write_aside(path.with_suffix(".json")) as file:
        file.write(json.dumps(record).encode())


def _fill(
    files: FilePixels,
    array: NDArray[np.uint8] | None,
    progress: Progress,
    first: int | None = None,
) -> dict[int, str]:
    """Prepare every image, or so many `first` ones, into `array` when there is one.

    What is wrong with those that are broken.
    """
    broken: dict[int, str] = {}

    def fill(i: int) -> None:
        try:
            pixels = files[i]
        except DataError as error:
            broken[i] = error.fault
            return
        if array is not None:
            array[i] = pixels

    n = len(files.images) if first is None else first
    with ThreadPoolExecutor(available_cores()) as pool:
        for done, _ in enumerate(pool.map(fill, range(n), chunksize=1), start=1):
            if done % 50 == 0 or done == n:
                progress.step("decoding images", done, n)
    return broken
