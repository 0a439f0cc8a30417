"""All geometry of an image as one map and one interpolation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ensembler.data.counters import Numbers, Streams
from ensembler.data.on_device.stages import Drawn, PlacedNumbers

# From places in the output to places in the input, from -1 to 1 from edge to edge:
# `[images, 3, 3]`, the last row 0, 0, 1.
Maps = NDArray[np.float64]
DrawMaps = Callable[[Streams], Maps]
Interpolation = Literal["bilinear", "nearest"]


@dataclass(frozen=True)
class Geometry:
    """One warp for several transforms, `parts` in the order in which an image meets them.

    Beyond its edges an image continues as its mirror image, or with the value `fill`.
    """

    parts: Sequence[DrawMaps]
    fill: float | None = None
    mode: Interpolation = "bilinear"

    def draw(self, streams: Streams) -> Drawn:
        """A map for each image."""
        maps = reduce(np.matmul, (part(streams) for part in self.parts))
        return Drawn(maps[:, :2].reshape(len(streams), 6).astype(np.float32))

    def apply(self, images: Tensor, drawn: PlacedNumbers) -> Tensor:
        """Every image warped by its map."""
        if self.fill is None:
            return warped(images, drawn.values, "reflection", self.mode)
        return warped(images - self.fill, drawn.values, "zeros", self.mode) + self.fill


def warped(images: Tensor, maps: Tensor, padding: str, mode: Interpolation) -> Tensor:
    """Images float32 `[n, channels, height, width]` warped by maps `[n, 6]`."""
    height, width = images.shape[2:]
    x, y = _centres(width, images.device), _centres(height, images.device)[:, None]
    # Not by affine_grid: its matrix product may be one of TF32, which is wrong by a tenth of a
    # pixel, or of whatever autocast says.
    a, b, c, d, e, f = (number[:, None, None] for number in maps.unbind(1))
    grid = torch.stack([a * x + (b * y + c), d * x + (e * y + f)], dim=3)
    return torch.nn.functional.grid_sample(
        images, grid, mode=mode, padding_mode=padding, align_corners=False
    )


def _centres(n: int, device: torch.device) -> Tensor:
    """The middles of `n` pixels between -1 and 1."""
    return (2 * torch.arange(n, device=device, dtype=torch.float32) + 1) / n - 1


def still(n: int) -> Maps:
    """Maps that change nothing."""
    return np.tile(np.eye(3), (n, 1, 1))


def where(happens: NDArray[np.bool_], maps: Maps) -> Maps:
    """Maps of the images to which they happen, and none for the others."""
    return np.where(happens[:, None, None], maps, still(len(maps)))


def maps_of(rows: Sequence[Sequence[Numbers | float]], n: int) -> Maps:
    """Maps from their two rows of three numbers, each `[images]` or the same for all."""
    out = still(n)
    for i, row in enumerate(rows):
        for j, number in enumerate(row):
            out[:, i, j] = number
    return out


def mirror(name: str, p: float, axis: int = 0) -> DrawMaps:
    """A mirror image left to right (`axis` 0) or upside down (1)."""

    def draw(streams: Streams) -> Maps:
        out = still(len(streams))
        out[streams.happens(name, p), axis, axis] = -1
        return out

    return draw


def turned(
    degrees: Numbers,
    scale: Numbers,
    right: Numbers,
    down: Numbers,
) -> Maps:
    """Maps of images that are turned clockwise, scaled, and shifted by shares of the side."""
    angle = np.radians(degrees)
    cos, sin = np.cos(angle) / scale, np.sin(angle) / scale
    x, y = 2 * right, 2 * down
    rows = [(cos, sin, -cos * x - sin * y), (-sin, cos, sin * x - cos * y)]
    return maps_of(rows, len(degrees))


def parts_of_images(
    width: Numbers,
    height: Numbers,
    x: Numbers,
    y: Numbers,
) -> Maps:
    """Maps of crops scaled to the whole: sides as shares, and their middles (-1 to 1)."""
    return maps_of([(width, 0, x), (0, height, y)], len(width))
