"""Arrays on disk: `.npy` files, opened only when shape, type and checksum match their record."""

from __future__ import annotations

import hashlib
import math
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ensembler.errors import MissingFileError, StoreError
from ensembler.files import write_aside
from ensembler.npy import mapped_into

if TYPE_CHECKING:
    from ensembler.predictions.settled import HeldFile

_FLOATS = (np.dtype(np.float16), np.dtype(np.float32))


def write_array(path: Path, array: NDArray[np.generic]) -> None:
    """Write `array` as `.npy`, whole or not at all."""
    with write_aside(path, size=array.nbytes) as file:
        np.lib.format.write_array(file, np.ascontiguousarray(array), allow_pickle=False)


def array_sha256(array: NDArray[np.generic]) -> str:
    """The sha256 of the file that `write_array` makes of an array, without making it."""
    digest = hashlib.sha256()

    class Hashing:
        def write(self, piece: bytes) -> None:
            digest.update(piece)

    np.lib.format.write_array(Hashing(), np.ascontiguousarray(array), allow_pickle=False)
    return digest.hexdigest()


@contextmanager
def fill_array(
    path: Path, shape: tuple[int, ...], dtype: DTypeLike
) -> Iterator[NDArray[np.generic]]:
    """Yield a memory-mapped array to fill.

    It becomes the `.npy` file `path` when the block ends.
    """
    if 0 in shape:
        yield (empty := np.empty(shape, dtype))
        write_array(path, empty)
        return
    size = math.prod(shape) * np.dtype(dtype).itemsize
    with write_aside(path, size=size) as file, mapped_into(file, shape, dtype) as array:
        yield array


def reserve_array(path: Path, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """Map the `.npy` file `path` of exactly `shape` for writing.

    Zeros when it is not there or something else.
    """
    if 0 in shape:
        return np.zeros(shape, dtype)
    if path.is_symlink():
        raise StoreError(
            f"{path} is a link, expected an array of this run: nothing is written through it; "
            "remove it"
        )
    try:
        found = np.load(path, mmap_mode="r+", allow_pickle=False)
        if (
            found.shape == shape
            and found.dtype == np.dtype(dtype)
            and found.flags.c_contiguous
        ):
            return found
    except (FileNotFoundError, ValueError, EOFError):
        pass  # not there, or cut short: it is begun again
    with fill_array(path, shape, dtype):
        pass
    return np.load(path, mmap_mode="r+", allow_pickle=False)


def release(*arrays: Any) -> None:
    """Give back the memory of mapped arrays' pages.

    What they hold stays in the files. Others are left alone.
    """
    for array in arrays:
        mapped = getattr(array, "_mmap", None)
        if isinstance(mapped, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
            mapped.madvise(mmap.MADV_DONTNEED)


def is_finite(array: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Which rows `[..., rows]` of an array `[..., rows, classes]` are finite.

    The array is read piece by piece, to save memory.
    """
    found = np.empty(array.shape[:-1], bool)
    for piece in np.ndindex(array.shape[:-2]):
        found[piece] = np.isfinite(array[piece]).all(axis=-1)
        release(array)
    return found


def open_array(
    path: Path,
    shape: tuple[int, ...],
    *,
    sha256: str | None,
    of: str,
    check: bool = True,
    file: HeldFile | None = None,
) -> NDArray[np.floating]:
    """Memory-map a float16 or float32 `.npy` of exactly `shape`.

    It is read from `file` when it was opened before. The header is judged before anything is
    allocated, so that a file that claims terabytes costs nothing. Raises StoreError naming the
    file, `of` (the record that describes it) and how to fix it.
    """
    fix = f"restore it from a copy, or remove {path.parent} to have it made again"
    try:
        with path.open("rb") if file is None else file.reader() as opened:
            return _open(opened, shape, sha256 if check else None, of)
    except FileNotFoundError as error:
        raise MissingFileError(
            f"{path} is missing though {of} describes it; {fix}"
        ) from error
    except (ValueError, EOFError, SyntaxError, UnicodeDecodeError) as error:
        raise StoreError(f"{path} {error}; {fix}") from error


def _open(
    file: BufferedReader, shape: tuple[int, ...], sha256: str | None, of: str
) -> NDArray[np.floating]:
    try:
        found_shape, dtype, offset = _header(file)
    except (ValueError, EOFError, SyntaxError, UnicodeDecodeError) as error:
        raise ValueError(f"is not a plain .npy array ({error})") from error
    if dtype not in _FLOATS:
        raise ValueError(f"holds {dtype}, expected float16 or float32")
    if found_shape != shape:
        raise ValueError(f"has shape {list(found_shape)}, {of} says {list(shape)}")
    expected_size = offset + int(np.prod(shape, dtype=object)) * dtype.itemsize
    size = os.fstat(file.fileno()).st_size
    if size != expected_size:
        raise ValueError(
            f"has {size} bytes, expected {expected_size}; it was cut short or altered"
        )
    if sha256 is not None:
        file.seek(0)
        if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
            raise ValueError(f"is not the file that {of} describes (its sha256 differs)")
    if 0 in shape:
        return np.empty(shape, dtype)
    return np.memmap(file, dtype=dtype, mode="r", offset=offset, shape=shape)


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    elif version == (2, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_2_0(file)
    else:
        raise ValueError(f"format version {version}")
    if dtype.hasobject:
        raise ValueError("it holds Python objects, which only pickle could read")
    if fortran and len(shape) > 1:
        raise ValueError("it is stored column by column; save it with np.ascontiguousarray")
    return shape, dtype, file.tell()
