"""Checksums of images, each file read once: what was read of unchanged files is remembered."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ensembler.cores import available_cores
from ensembler.data.images import Images
from ensembler.errors import DataError
from ensembler.files import write_aside


def content_checksums(images: Images, cache: Path) -> NDArray[np.str_]:
    """The checksum of every image's content, `[images]`.

    A file is read again when its size or time of change is another. Raises DataError for a file that is not there.
    """
    n = len(images)
    fingerprints = np.array([_of(images.fingerprint, images, i) for i in range(n)], dtype=np.str_)
    names = hashlib.sha256("\n".join(images.name(i) for i in range(n)).encode())
    path = cache / f"contents-{names.hexdigest()[:24]}.npz"
    found = np.zeros(n, dtype="<U32")
    old = _read(path, n)
    if old is not None:
        same = old["fingerprint"] == fingerprints
        found[same] = old["content"][same]
    todo = np.flatnonzero(found == "").tolist()
    if todo:
        with ThreadPoolExecutor(available_cores()) as pool:
            found[todo] = list(pool.map(lambda i: _of(images.content, images, i), todo))
        cache.mkdir(parents=True, exist_ok=True)
        with write_aside(path, durable=False) as file:
            np.savez(file, fingerprint=fingerprints, content=found)
    return found


def _of(what: Callable[[int], str], images: Images, index: int) -> str:
    try:
        return what(index)
    except OSError as error:
        raise DataError(f"{images.name(index)}: cannot be read ({error.strerror})") from error


def _read(path: Path, n: int) -> dict[str, NDArray[np.str_]] | None:
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            found = {name: file[name] for name in ("fingerprint", "content")}
    except (FileNotFoundError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None  # not there, or not whole: everything is read again
    return found if all(len(values) == n for values in found.values()) else None
