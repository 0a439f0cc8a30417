"""What changes the values of pixels and not their places: colours, blur, noise and holes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ensembler.data.counters import Streams
from ensembler.data.on_device.stages import Drawn, Numbers

# From RGB and 1 to RGB and 1, 0 to 255: `[images, 4, 4]`, the last row 0, 0, 0, 1.
Matrices = NDArray[np.float64]
DrawMatrices = Callable[[Streams], Matrices]
Draws = Callable[[Streams], NDArray[np.float64]]
_BLURRED_AT_ONCE = 8  # images, for each takes as much memory as its filter has taps
_ALL_BITS = 2**64


@dataclass(frozen=True)
class Colours:
    """One matrix for several changes of colour, `parts` in the order in which they happen."""

    parts: Sequence[DrawMatrices]

    def draw(self, streams: Streams) -> Drawn:
        """A matrix for each image."""
        together = reduce(
            lambda before, part: np.matmul(part(streams), before),
            self.parts,
            unchanged(len(streams)),
        )
        values = together[:, :3].reshape(len(streams), 12).astype(np.float32)
        return Drawn(values)

    def apply(self, images: Tensor, drawn: Numbers) -> Tensor:
        """Every image with its colours changed."""
        matrix = drawn.values.view(-1, 3, 4, 1, 1)
        if (
            images.shape[1] == 1
        ):  # a grey image is a colour image whose channels are the same
            gain, offset = matrix[:, :1, :3].sum(dim=2), matrix[:, :1, 3]
            return (images * gain + offset).clamp_(0, 255)
        # Sums of products by hand: a matrix product may be one of TF32.
        out = matrix[:, :, 3] + matrix[:, :, 0] * images[:, 0:1]
        out = torch.addcmul(out, matrix[:, :, 1], images[:, 1:2])
        return torch.addcmul(out, matrix[:, :, 2], images[:, 2:3]).clamp_(0, 255)


def unchanged(n: int) -> Matrices:
    """Matrices that change nothing."""
    return np.tile(np.eye(4), (n, 1, 1))


def toned(gain: NDArray[np.float64], offset: NDArray[np.float64]) -> Matrices:
    """Matrices of images times `gain` plus `offset`."""
    out = unchanged(len(gain))
    for i in range(3):
        out[:, i, i], out[:, i, 3] = gain, offset
    return out


def hued(degrees: NDArray[np.float64], saturation: NDArray[np.float64]) -> Matrices:
    """Matrices that turn hues about the grey axis and scale the distance from it."""
    angle = np.radians(degrees)
    cos, sin = saturation * np.cos(angle), saturation * np.sin(angle)
    same = (1 + 2 * cos) / 3
    next_, last = ((1 - cos) / 3 + sign * sin / math.sqrt(3) for sign in (-1, 1))
    out = unchanged(len(degrees))
    for i in range(3):
        out[:, i, i], out[:, i, (i + 1) % 3], out[:, i, (i + 2) % 3] = same, next_, last
    return out


@dataclass(frozen=True)
class Blur:
    """A Gaussian blur; `sigmas` in pixels, 0 = none, at most `most`."""

    sigmas: Draws
    most: float

    def draw(self, streams: Streams) -> Drawn:
        """A strength for each image."""
        sigmas = self.sigmas(streams)
        return Drawn(sigmas.astype(np.float32)[:, None], sigmas > 0)

    def apply(self, images: Tensor, drawn: Numbers) -> Tensor:
        """Every image blurred along both axes."""
        some = zip(
            torch.split(images, _BLURRED_AT_ONCE),
            torch.split(drawn.values, _BLURRED_AT_ONCE),
            strict=True,
        )
        return torch.cat([self._blurred(part, sigmas[:, 0]) for part, sigmas in some])

    def _blurred(self, images: Tensor, sigmas: Tensor) -> Tensor:
        radius = _widest(self.most)
        taps = _taps(sigmas, radius)[:, None, None, None]
        for axis in (2, 3):
            beyond = _mirrored(images.shape[axis], radius, images.device)
            windows = images.index_select(axis, beyond).unfold(axis, taps.shape[-1], 1)
            images = (windows * taps).sum(dim=-1)
        return images


def _widest(sigma: float) -> int:
    return int(_radius(torch.tensor(sigma)))


def _radius(sigma: Tensor) -> Tensor:
    """How many pixels to either side OpenCV's filter of uint8 images takes in."""
    return torch.div(torch.round(sigma * 6 + 1).int() | 1, 2, rounding_mode="floor")


def _taps(sigmas: Tensor, radius: int) -> Tensor:
    """The weights of the filters, `[images, 2 radius + 1]`, each as wide as its sigma asks for."""
    places = torch.arange(-radius, radius + 1, device=sigmas.device)
    sigmas = sigmas[:, None]
    weights = torch.exp(-0.5 * (places / sigmas) ** 2)
    weights = weights * (places.abs() <= _radius(sigmas))
    return weights / weights.sum(dim=1, keepdim=True)


def _mirrored(n: int, beyond: int, device: torch.device) -> Tensor:
    """The places of a line that goes on as its mirror image, `beyond` pixels to either side."""
    places = torch.arange(-beyond, n + beyond, device=device) % (2 * n)
    return torch.minimum(places, 2 * n - 1 - places)


@dataclass(frozen=True)
class Noise:
    """Gaussian noise; `stds` from 0 to 255, 0 = none."""

    stds: Draws

    def draw(self, streams: Streams) -> Drawn:
        """A strength for each image."""
        stds = self.stds(streams)
        return Drawn(stds.astype(np.float32)[:, None], stds > 0)

    def apply(self, images: Tensor, drawn: Numbers) -> Tensor:
        """Every image with noise of its own."""
        noise = _normal(drawn.keys, images[0].numel()).view(images.shape)
        return torch.addcmul(images, noise, drawn.values[:, :, None, None]).clamp_(0, 255)


def _normal(keys: Tensor, n: int) -> Tensor:
    """Normal numbers float32 `[keys, n]`, by counting (Box and Muller, 1958)."""
    places = torch.arange(n, device=keys.device, dtype=torch.int64)
    bits = _mixed(keys[:, None] + places * _signed(0x9E3779B97F4A7C15))
    first = ((bits >> 40) & 0xFFFFFF).float().add_(0.5).mul_(2.0**-24)
    second = (bits & 0xFFFFFF).float().mul_(2 * math.pi * 2.0**-24)
    return first.log_().mul_(-2).sqrt_().mul_(second.cos_())


def _mixed(numbers: Tensor) -> Tensor:
    """The mixing of `counters.mixed`, on a device."""
    out = (numbers ^ _shifted(numbers, 30)) * _signed(0xBF58476D1CE4E5B9)
    out = (out ^ _shifted(out, 27)) * _signed(0x94D049BB133111EB)
    return out ^ _shifted(out, 31)


def _shifted(numbers: Tensor, by: int) -> Tensor:
    """To the right, as if the numbers had no sign."""
    return (numbers >> by) & ((1 << (64 - by)) - 1)


def _signed(number: int) -> int:
    return number - _ALL_BITS if number >= _ALL_BITS // 2 else number


@dataclass(frozen=True)
class Holes:
    """Rectangles of the image's mean colour.

    `boxes` `[images, most, 4]` are top, left, bottom and right in pixels; all 0 = none.
    """

    boxes: Draws

    def draw(self, streams: Streams) -> Drawn:
        """Rectangles for each image."""
        boxes = self.boxes(streams)
        happens = np.any(boxes[:, :, 2] > boxes[:, :, 0], axis=1)
        return Drawn(boxes.reshape(len(boxes), -1).astype(np.float32), happens)

    def apply(self, images: Tensor, drawn: Numbers) -> Tensor:
        """Every image with its holes."""
        colour = images.mean(dim=(2, 3), keepdim=True).round_()
        x = torch.arange(images.shape[3], device=images.device)
        y = torch.arange(images.shape[2], device=images.device)[:, None]
        for box in drawn.values.view(len(images), -1, 4).unbind(1):
            top, left, bottom, right = (side[:, None, None, None] for side in box.unbind(1))
            inside = (y >= top) & (y < bottom) & (x >= left) & (x < right)
            images = torch.where(inside, colour, images)
        return images
