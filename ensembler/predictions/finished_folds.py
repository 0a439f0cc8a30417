"""One file for each finished fold of a member that is not complete yet: its validation and test logits.

The file is written after the fold's weights, so a fold is finished exactly when it exists. It carries checksums of
its arrays and of the weights in its header.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensembler.errors import StoreError
from ensembler.files import write_bytes


@dataclass(frozen=True)
class FinishedFold:
    """Logits of one fold's checkpoint and how they came about.

    `rows` are positions among the train rows, `oof` is `[views, rows, classes]`, `test` `[views, test samples,
    classes]`; `record` holds fingerprint, views, classes, weights' sha256, sha256 of samples.csv, seconds, history.
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
    from safetensors.numpy import save

    arrays: dict[str, NDArray[Any]] = {
        "rows": np.ascontiguousarray(finished.rows),
        "oof": np.ascontiguousarray(finished.oof),
        "test": np.ascontiguousarray(finished.test),
    }
    header = {"record": json.dumps(dict(finished.record)), "sha256": _digest(arrays, finished.record)}
    write_bytes(fold_path(folder, finished.fold), save(arrays, metadata=header))


def read_finished_fold(folder: Path, fold: int) -> FinishedFold:
    """Read a finished fold; StoreError when the file is altered or cut short."""
    from safetensors import SafetensorError, safe_open

    path = fold_path(folder, fold)
    mend = "remove it and the fold will be predicted again"
    try:
        with safe_open(path, "numpy") as file:
            header = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in ("rows", "oof", "test")}
        record = json.loads(header["record"])
        digest = _digest(arrays, record)
    except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
        raise StoreError(f"{path} cannot be read ({error}); {mend}") from error
    if header.get("sha256") != digest:
        raise StoreError(f"{path} was altered (its checksum differs); {mend}")
    return FinishedFold(fold, arrays["rows"], arrays["oof"], arrays["test"], record)


def _digest(arrays: Mapping[str, NDArray[Any]], record: Mapping[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps(dict(record), sort_keys=True).encode())
    for name in sorted(arrays):
        digest.update(f"{name}{arrays[name].shape}{arrays[name].dtype}".encode())
        digest.update(arrays[name].tobytes())
    return digest.hexdigest()


def finished_folds(folder: Path, folds: int) -> list[int]:
    """Which folds of an incomplete member are finished."""
    return [fold for fold in range(folds) if fold_path(folder, fold).is_file()]
