"""All changes of an image's colours as one matrix."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ensembler.data.counters import Numbers, Streams
from ensembler.data.on_device.stages import Drawn, PlacedNumbers

# From RGB and 1 to RGB and 1, 0 to 255: `[images, 4, 4]`, the last row 0, 0, 0, 1.
Matrices = NDArray[np.float64]
DrawMatrices = Callable[[Streams], Matrices]
GREY = (0.299, 0.587, 0.114)  # shares of red, green and blue in brightness (ITU-R BT.601)


@dataclass(frozen=True)
class Colours:
    """One matrix for several changes of colour, `parts` in the order in which they happen.

    `seldom` says that images to which nothing happens are left out.
    """

    parts: Sequence[DrawMatrices]
    seldom: bool = False

    def draw(self, streams: Streams) -> Drawn:
        """A matrix for each image."""
        together = reduce(
            lambda before, part: np.matmul(part(streams), before),
            self.parts,
            unchanged(len(streams)),
        )
        values = together[:, :3].reshape(len(streams), 12).astype(np.float32)
        is_changed = np.any(together != np.eye(4), axis=(1, 2))
        return Drawn(values, is_changed if self.seldom else None)

    def apply(self, images: Tensor, drawn: PlacedNumbers) -> Tensor:
        """Every image with its colours changed."""
        return coloured(images, drawn.values)


def coloured(images: Tensor, matrices: Tensor) -> Tensor:
    """Images whose colours are changed by matrices `[n, 12]`."""
    matrix = matrices.view(-1, 3, 4, 1, 1)
    if images.shape[1] == 1:
        # A grey image is a colour image whose channels are the same.
        gain, offset = matrix[:, :1, :3].sum(dim=2), matrix[:, :1, 3]
        return (images * gain + offset).clamp_(0, 255)
    # Sums of products by hand: a matrix product may be one of TF32.
    out = matrix[:, :, 3] + matrix[:, :, 0] * images[:, 0:1]
    out = torch.addcmul(out, matrix[:, :, 1], images[:, 1:2])
    return torch.addcmul(out, matrix[:, :, 2], images[:, 2:3]).clamp_(0, 255)


def brightness_of(images: Tensor) -> Tensor:
    """The brightness of every pixel, `[n, 1, height, width]`."""
    if images.shape[1] == 1:
        return images
    red, green, blue = images.split(1, dim=1)  # type: ignore[no-untyped-call]
    grey: Tensor = GREY[0] * red + GREY[1] * green + GREY[2] * blue
    return grey


def unchanged(n: int) -> Matrices:
    """Matrices that change nothing."""
    return np.tile(np.eye(4), (n, 1, 1))


def greyed(colour: Numbers) -> Matrices:
    """Matrices that keep so much of an image's colour: 0 = grey, 1 = as it is, above 1 = more."""
    out, share = unchanged(len(colour)), (1 - colour)[:, None, None]
    out[:, :3, :3] = colour[:, None, None] * np.eye(3) + share * np.array(GREY)
    return out


def toned(gain: Numbers, offset: Numbers) -> Matrices:
    """Matrices of images times `gain` plus `offset`."""
    out = unchanged(len(gain))
    for i in range(3):
        out[:, i, i], out[:, i, 3] = gain, offset
    return out


def hued(degrees: Numbers, saturation: Numbers) -> Matrices:
    """Matrices that turn hues about the grey axis and scale the distance from it."""
    angle = np.radians(degrees)
    cos, sin = saturation * np.cos(angle), saturation * np.sin(angle)
    same = (1 + 2 * cos) / 3
    next_, last = ((1 - cos) / 3 + sign * sin / math.sqrt(3) for sign in (-1, 1))
    out = unchanged(len(degrees))
    for i in range(3):
        out[:, i, i], out[:, i, (i + 1) % 3], out[:, i, (i + 2) % 3] = same, next_, last
    return out
