"""Arrays that may be larger than memory: what does not fit lies in a temporary file."""

from __future__ import annotations

import math
import os
import shutil
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ensembler.errors import DiskFullError, RequestError
from ensembler.files import preallocate

# Of both versions of control groups.
_CONTAINER_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


def room(shape: tuple[int, ...]) -> NDArray[np.float32]:
    """A float32 array of `shape` to be filled: in memory, or mapped from a temporary file."""
    return (
        np.empty(shape, np.float32) if _bytes(shape) <= most_in_memory() else on_disk(shape)
    )


def on_disk(shape: tuple[int, ...]) -> NDArray[np.float32]:
    """An array float32 of `shape` to be filled, mapped from a temporary file."""
    size = _bytes(shape)
    with (
        tempfile.TemporaryFile() as file
    ):  # unlinked already: gone with the process, however that ends
        try:
            preallocate(file, size)
        except OSError as error:
            raise _no_room(size, error) from error
        return np.memmap(file, np.float32, "w+", shape=shape)


def _bytes(shape: tuple[int, ...]) -> int:
    return math.prod(shape) * np.dtype(np.float32).itemsize


def _no_room(size: int, error: OSError) -> DiskFullError:
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free
    return DiskFullError(
        f"{folder} has no room for an array of {size / 1e6:,.1f} MB that does not fit in "
        f"memory ({free / 1e6:,.1f} MB are free; {error.strerror}): make room there, set "
        "TMPDIR to a folder on a larger disk, or let larger arrays stay in memory with "
        f"ENS_STACK_MEMORY (bytes an array may take; now {most_in_memory()})"
    )


def most_in_memory() -> int:
    """The bytes an array may take in memory: half of this machine's.

    `ENS_STACK_MEMORY` says otherwise.
    """
    given = os.environ.get("ENS_STACK_MEMORY")
    if given is not None:
        if not given.isdecimal():
            raise RequestError(f"ENS_STACK_MEMORY is {given!r}, expected a number of bytes")
        return int(given)
    return machine_memory() // 2


def machine_memory() -> int:
    """The bytes of memory that this machine has, or its container where that has fewer."""
    return _least_memory(_CONTAINER_LIMITS)


@cache
def _least_memory(limits: tuple[Path, ...]) -> int:
    """Read once in a process: every array of a blend's search asks for it."""
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path in limits:
        if path.is_file() and (text := path.read_text().strip()).isdecimal():
            found.append(int(text))
    return min(found)
