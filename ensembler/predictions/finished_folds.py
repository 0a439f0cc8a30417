"""One file for each finished fold of an incomplete member: its validation and test logits.

The file is written after the fold's weights, so a fold is finished exactly when it exists. It
carries checksums of its arrays and of the weights in its header.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensembler.errors import StoreError
from ensembler.files import write_aside
from ensembler.predictions.arrays import release

_TYPES = {"rows": "I64", "oof": "F32", "test": "F32"}
_PIECE = 65536  # rows
_MOST_HEADER = 100_000_000  # bytes, as safetensors has it
_FIX = "remove it and the fold will be predicted again"
# What reading a file raises that is none of ours, or was cut short.
_UNREADABLE = (
    OSError,
    KeyError,
    ValueError,
    TypeError,
    AttributeError,
    RecursionError,
    OverflowError,
)


@dataclass(frozen=True)
class FinishedFold:
    """Logits of one fold's checkpoint and how they came about.

    `rows` are positions among the train rows, `oof` is `[views, rows, classes]`, `test` `[views,
    test samples, classes]`; `record` holds fingerprint, views, classes, weights' sha256, sha256 of
    samples.csv, seconds, history.
    """

    fold: int
    rows: NDArray[np.int64]
    oof: NDArray[np.float32]
    test: NDArray[np.float32]
    record: Mapping[str, Any]


def fold_path(folder: Path, fold: int) -> Path:
    """Where the logits of a finished fold lie until the member is complete."""
    return folder / f"fold{fold}.logits.safetensors"


def weights_path(folder: Path, fold: int) -> Path:
    """Where the weights of a fold lie."""
    return folder / f"fold{fold}.safetensors"


def write_finished_fold(folder: Path, finished: FinishedFold) -> None:
    """Write the file that makes the fold a finished one."""
    arrays: dict[str, NDArray[Any]] = {
        "rows": finished.rows,
        "oof": finished.oof,
        "test": finished.test,
    }
    told = {
        "record": json.dumps(dict(finished.record)),
        "sha256": _digest(arrays, finished.record),
    }
    header: dict[str, Any] = {"__metadata__": told}
    end = 0
    for name, array in arrays.items():
        header[name] = {
            "dtype": _TYPES[name],
            "shape": list(array.shape),
            "data_offsets": [end, end + array.nbytes],
        }
        end += array.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # as safetensors aligns it
    with write_aside(fold_path(folder, finished.fold)) as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for array in arrays.values():
            for piece in _pieces(array):
                file.write(piece)


def read_finished_fold(folder: Path, fold: int) -> FinishedFold:
    """Read a finished fold, its logits mapped from the file.

    StoreError when that is altered or cut short.
    """
    path = fold_path(folder, fold)
    try:
        told, arrays = _map(path)
        record = json.loads(told["record"])
        state = path.stat()
        digest = _digest_of_file(path, state.st_ino, state.st_mtime_ns, state.st_size)
    except _UNREADABLE as error:
        raise StoreError(f"{path} cannot be read ({error}); {_FIX}") from error
    if told.get("sha256") != digest:
        raise StoreError(f"{path} was altered (its checksum differs); {_FIX}")
    return FinishedFold(fold, arrays["rows"], arrays["oof"], arrays["test"], record)


def targets_of_fold(folder: Path, fold: int) -> tuple[str, ...]:
    """The targets that a finished fold predicts, read from its header alone.

    StoreError when it cannot be read.
    """
    path = fold_path(folder, fold)
    try:
        record = json.loads(_map(path)[0]["record"])
        return tuple(record.get("tasks") or ())
    except _UNREADABLE as error:
        raise StoreError(f"{path} cannot be read ({error}); {_FIX}") from error


def _map(path: Path) -> tuple[dict[str, str], dict[str, NDArray[Any]]]:
    """The header of a safetensors file, and its arrays.

    The arrays are memory-mapped: all folds together may not fit into memory.
    """
    with path.open("rb") as file:
        n = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(min(n, _MOST_HEADER)))
    types = {"rows": np.int64, "oof": np.float32, "test": np.float32}
    arrays: dict[str, NDArray[Any]] = {}
    for name, dtype in types.items():
        shape, (begin, end) = tuple(header[name]["shape"]), header[name]["data_offsets"]
        if math.prod(shape) * np.dtype(dtype).itemsize != end - begin:
            raise ValueError(
                f"{name} of shape {list(shape)} does not take {end - begin} bytes"
            )
        if end == begin:
            arrays[name] = np.zeros(shape, dtype)
        else:
            arrays[name] = np.memmap(path, dtype, "r", 8 + n + begin, shape)
    return header["__metadata__"], arrays


@lru_cache(maxsize=4096)
def _digest_of_file(path: Path, _inode: int, _changed: int, _size: int) -> str:
    """The digest of what a file holds, read through once for as long as the file stays the same."""
    told, arrays = _map(path)
    return _digest(arrays, json.loads(told["record"]))


def _digest(arrays: Mapping[str, NDArray[Any]], record: Mapping[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps(dict(record), sort_keys=True).encode())
    for name in sorted(arrays):
        digest.update(f"{name}{arrays[name].shape}{arrays[name].dtype}".encode())
        for piece in _pieces(arrays[name]):
            digest.update(piece)
    return digest.hexdigest()


def _pieces(array: NDArray[Any]) -> Iterator[memoryview]:
    """The bytes of an array that may be mapped and larger than memory, piece by piece."""
    views = array if array.ndim > 1 else array[None]
    for view in views:
        for start in range(0, len(view), _PIECE):
            piece = np.ascontiguousarray(view[start : start + _PIECE])
            yield piece.reshape(-1).view(np.uint8).data
        release(array)


def finished_folds(folder: Path, folds: int) -> list[int]:
    """Which folds of an incomplete member are finished."""
    return [fold for fold in range(folds) if fold_path(folder, fold).is_file()]
