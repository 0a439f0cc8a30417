"""Checksums of images, each file read once: what was read of unchanged files is remembered."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensembler.data.images import Images
from ensembler.errors import DataError
from ensembler.files import write_aside
from ensembler.machine.cores import available_cores


@dataclass(frozen=True)
class Contents:
    """What is known of images before they are decoded.

    `checksum` is that of the content `[images]`. `header` is int32 `[images, 3]`: height, width and
    bits of a grey level; 0 where the file cannot be read.
    """

    checksum: NDArray[np.str_]
    header: NDArray[np.int32]


def read_contents(images: Images, cache: Path) -> Contents:
    """Look at every image's content; DataError for a file that is not there.

    A file is read again when its size or time of change is another.
    """
    n = len(images)
    fingerprints = np.array(
        [_of(images.fingerprint, images, i) for i in range(n)], dtype=np.str_
    )
    names = hashlib.sha256(
        "\n".join(images.name(i) for i in range(n)).encode(errors="surrogateescape")
    )
    path = cache / f"contents-{names.hexdigest()[:24]}.npz"
    found: dict[str, NDArray[Any]] = {
        "content": np.zeros(n, "<U32"),
        "header": np.full((n, 3), -1, np.int32),
    }
    old = _read(path, n)
    if old is not None:
        same = old["fingerprint"] == fingerprints
        for name in found.keys() & old.keys():
            found[name][same] = old[name][same]
    unread, unseen = (
        np.flatnonzero(found["content"] == ""),
        np.flatnonzero(found["header"][:, 0] < 0),
    )
    if len(unread) or len(unseen):
        with ThreadPoolExecutor(available_cores()) as pool:
            found["content"][unread] = list(
                pool.map(lambda i: _of(images.content, images, i), unread.tolist())
            )
            headers = list(pool.map(lambda i: _header(images, i), unseen.tolist()))
        found["header"][unseen] = np.array(headers, np.int32).reshape(len(unseen), 3)
        cache.mkdir(parents=True, exist_ok=True)
        with write_aside(path, durable=False) as file:
            np.savez(
                file,
                fingerprint=fingerprints,
                content=found["content"],
                header=found["header"],
            )
    return Contents(found["content"], found["header"])


def _header(images: Images, index: int) -> tuple[int, int, int]:
    header = images.header(index)
    return (0, 0, 0) if header is None else (header.height, header.width, header.bits)


def _of(what: Callable[[int], str], images: Images, index: int) -> str:
    try:
        return what(index)
    except OSError as error:
        raise DataError(
            f"{images.name(index)}: cannot be read ({error.strerror})"
        ) from error


def _read(path: Path, n: int) -> dict[str, NDArray[Any]] | None:
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            found = {
                name: file[name]
                for name in ("fingerprint", "content", "header")
                if name in file
            }
            found["fingerprint"], found["content"]
    except (FileNotFoundError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None  # not there, or not whole: everything is read again
    return found if all(len(values) == n for values in found.values()) else None
