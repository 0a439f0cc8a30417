"""Arrays that may be larger than memory: what does not fit lies in a temporary file."""

from __future__ import annotations

import os
import tempfile

import numpy as np
from numpy.typing import NDArray

from ensembler.errors import RequestError


def room(shape: tuple[int, ...]) -> NDArray[np.float32]:
    """An array float32 of `shape` to be filled: in memory, or mapped from a temporary file when that is too large."""
    if int(np.prod(shape)) * 4 <= most_in_memory():
        return np.empty(shape, np.float32)
    with tempfile.TemporaryFile() as file:  # unlinked already: gone with the process, however that ends
        return np.memmap(file, np.float32, "w+", shape=shape)


def most_in_memory() -> int:
    """The bytes an array may take in memory: half of this machine's; `ENS_STACK_MEMORY` says otherwise."""
    given = os.environ.get("ENS_STACK_MEMORY")
    if given is not None:
        if not given.isdecimal():
            raise RequestError(f"ENS_STACK_MEMORY is {given!r}, expected a number of bytes")
        return int(given)
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
