"""A `.npy` file that is filled through a memory map while it is being written aside."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ensembler.files import preallocate


@contextmanager
def mapped_into(
    file: IO[bytes], shape: tuple[int, ...], dtype: DTypeLike
) -> Iterator[NDArray[Any]]:
    """Yield an array of zeros to fill, which is the content of `file` when the block ends.

    The room is reserved first: a full disk is an error here, not a crash while it is filled.
    """
    header = {
        "descr": np.lib.format.dtype_to_descr(np.dtype(dtype)),
        "fortran_order": False,
        "shape": shape,
    }
    np.lib.format.write_array_header_1_0(file, header)
    offset = file.tell()
    preallocate(file, offset + math.prod(shape) * np.dtype(dtype).itemsize)
    array = np.memmap(file.name, dtype=dtype, mode="r+", offset=offset, shape=shape)
    yield array
    array.flush()
    del array
