"""An array in a file, as a value: two that are equal are the same array in any process."""

from __future__ import annotations

from dataclasses import dataclass
from mmap import mmap
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ensembler.data.pixels import Pixels


@dataclass(frozen=True)
class MappedFile:
    """Where in which file an array is."""

    path: Path
    offset: int
    shape: tuple[int, ...]

    @classmethod
    def of(cls, pixels: Pixels) -> MappedFile | None:
        """The file of mapped pixels as a whole; None for others."""
        base = getattr(pixels, "base", None)
        if not isinstance(pixels, np.memmap) or not isinstance(base, mmap):
            return None
        return cls(Path(str(pixels.filename)), pixels.offset, pixels.shape)

    def open(self) -> NDArray[np.uint8]:
        """The array."""
        return np.memmap(self.path, np.uint8, "r", self.offset, self.shape)
