"""Prepared images one after the other as one, and as several transforms show them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensembler.data.pixels import Pixels

Transform = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]


@dataclass(frozen=True)
class JoinedPixels:
    """The images of several `parts` of one size, in their order; nothing is copied."""

    parts: tuple[Pixels, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """`(images, size, size, channels)`."""
        return (sum(part.shape[0] for part in self.parts), *self.parts[0].shape[1:])

    def __getitem__(self, rows: Any, /) -> NDArray[np.uint8]:
        """One image for a position, several for an array of positions or a slice."""
        if isinstance(rows, (int, np.integer)):
            return self[np.array([rows])][0]
        wanted = np.arange(self.shape[0])[rows]
        out = np.empty((len(wanted), *self.shape[1:]), np.uint8)
        start = 0
        for part in self.parts:
            inside = (wanted >= start) & (wanted < start + part.shape[0])
            if inside.any():
                out[inside] = part[wanted[inside] - start]
            start += part.shape[0]
        return out


@dataclass(frozen=True)
class ViewedPixels:
    """`pixels` as they are, then as each of `views` shows them: views x images in all."""

    pixels: Pixels
    views: Sequence[Transform]

    @property
    def shape(self) -> tuple[int, ...]:
        """`((views + 1) * images, size, size, channels)`."""
        n_images, *rest = self.pixels.shape
        return ((len(self.views) + 1) * n_images, *rest)

    def __getitem__(self, rows: Any, /) -> NDArray[np.uint8]:
        """One image for a position, several for an array of positions or a slice."""
        if isinstance(rows, (int, np.integer)):
            return self[np.array([rows])][0]
        wanted = np.arange(self.shape[0])[rows]
        block, image = np.divmod(wanted, self.pixels.shape[0])
        out = np.ascontiguousarray(self.pixels[image])
        for number, view in enumerate(self.views, start=1):
            inside = block == number
            if inside.any():
                out[inside] = view(out[inside])
        return out
