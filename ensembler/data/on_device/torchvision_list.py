"""Lists of torchvision's v2 transforms as stages for whole batches, those that are known here.

Each transform is built by torchvision, which checks its arguments; what it would draw is drawn
from its own ranges.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from ensembler.data.counters import Numbers, Streams
from ensembler.data.on_device import colours, geometry
from ensembler.data.on_device.blur import Blur
from ensembler.data.on_device.holes import Holes
from ensembler.data.on_device.parts import (
    Asked,
    Beyond,
    Library,
    NotOnDevice,
    Part,
    flip,
    grey,
    inverse,
    inverted,
    only_plain,
    rectangles,
    resized_crop,
)
from ensembler.data.on_device.stages import Drawn, PlacedNumbers
from ensembler.data.torchvision_augment import build_transform

_TRIES = 10


def _rotation(asked: Asked) -> Part:
    given, key = asked.given, asked.key
    only_plain("RandomRotation", given, expand=False, center=None)

    def draw(streams: Streams) -> geometry.Maps:
        degrees = streams.uniform(f"{key}.degrees", *given.degrees)
        still = np.zeros(len(streams))
        # anticlockwise
        return geometry.turned(-degrees, still + 1, still, still)

    return Beyond(draw, *_beyond("RandomRotation", given))


def _affine(asked: Asked) -> Part:
    given, size, key = asked.given, asked.size, asked.key
    only_plain("RandomAffine", given, center=None)
    shear = (0.0,) * 4 if given.shear is None else (*given.shear, 0.0, 0.0)[:4]

    def draw(streams: Streams) -> geometry.Maps:
        n = len(streams)
        turn = np.radians(streams.uniform(f"{key}.degrees", *given.degrees))
        scale = streams.uniform(f"{key}.scale", *(given.scale or (1.0, 1.0)))
        x = np.radians(streams.uniform(f"{key}.shear.x", *shear[:2]))
        y = np.radians(streams.uniform(f"{key}.shear.y", *shear[2:]))
        right, down = (
            np.rint(streams.around(f"{key}.shift.{axis}", most * size)) * 2 / size
            for axis, most in zip("xy", given.translate or (0.0, 0.0), strict=True)
        )
        cos, sin = np.cos(turn - y) / np.cos(y), np.sin(turn - y) / np.cos(y)
        forward = [
            (scale * cos, scale * (-cos * np.tan(x) - np.sin(turn)), right),
            (scale * sin, scale * (-sin * np.tan(x) + np.cos(turn)), down),
        ]
        return inverse(geometry.maps_of(forward, n), np.ones(n, bool))

    return Beyond(draw, *_beyond("RandomAffine", given))


def _beyond(name: str, given: Any) -> tuple[float, geometry.Interpolation]:
    """What lies beyond the edges, and how pixels are interpolated."""
    mode = getattr(given.interpolation, "value", given.interpolation)
    if mode not in ("nearest", "bilinear"):
        raise NotOnDevice(f"{name} with interpolation: {mode}")
    fill = 0 if given.fill is None else given.fill
    if not isinstance(fill, (int, float)):
        raise NotOnDevice(f"{name} with fill: {fill}")
    return float(fill), cast("geometry.Interpolation", mode)


def _crop(asked: Asked) -> Part:
    given, size, key = asked.given, asked.size, asked.key
    name = "RandomResizedCrop"
    if tuple(given.size) != (size, size):
        raise NotOnDevice(f"{name} with size: {given.size}")
    mode = getattr(given.interpolation, "value", given.interpolation)
    if mode != "bilinear":
        raise NotOnDevice(f"{name} with interpolation: {mode}")
    return resized_crop(key, 1.0, size, tuple(given.scale), tuple(given.ratio))


def _blur(asked: Asked) -> Part:
    given, size, key = asked.given, asked.size, asked.key
    side = given.kernel_size[0]
    if tuple(given.kernel_size) != (side, side):
        raise NotOnDevice(f"GaussianBlur with kernel_size: {given.kernel_size}")
    if side // 2 >= size:
        raise NotOnDevice(f"GaussianBlur with kernel_size: {side}, for images of {size} px")

    def sigmas(streams: Streams) -> Numbers:
        return streams.uniform(f"{key}.sigma", *given.sigma)

    def radius(sigma: Tensor) -> Tensor:
        return torch.full_like(sigma, side // 2)

    return Blur(sigmas, side // 2, radius, twice=False)


def _erasing(asked: Asked) -> Part:
    given, size, key = asked.given, asked.size, asked.key
    if given.value is None or len(given.value) != 1:
        raise NotOnDevice(f"RandomErasing with value: {given.value or 'random'}")
    low, high = np.log(given.ratio)

    def boxes(streams: Streams) -> Numbers:
        height, width = np.zeros(len(streams)), np.zeros(len(streams))
        for i in reversed(range(_TRIES)):
            area = size**2 * streams.uniform(f"{key}.{i}.area", *given.scale)
            shape = np.exp(streams.uniform(f"{key}.{i}.ratio", low, high))
            h, w = np.rint(np.sqrt(area * shape)), np.rint(np.sqrt(area / shape))
            fits = (h < size) & (w < size)
            height, width = np.where(fits, h, height), np.where(fits, w, width)
        box = rectangles(streams, key, size, height, width)
        return (box * streams.happens(key, given.p)[:, None])[:, None]

    return Holes(boxes, given.value[0])


@dataclass(frozen=True)
class Jitter:
    """Brightness, contrast and saturation times factors, one after the other in any order.

    `limits` are those of the three, None = left as it is.
    """

    key: str
    limits: tuple[tuple[float, float] | None, ...]

    def draw(self, streams: Streams) -> Drawn:
        """For each of three steps a matrix, and how much of the mean brightness is added."""
        n = len(streams)
        order = np.argsort(
            [streams.unit(f"{self.key}.order.{i}") for i in range(3)], axis=0
        )
        factors = [
            np.ones(n) if limits is None else streams.uniform(f"{self.key}.{i}", *limits)
            for i, limits in enumerate(self.limits)
        ]
        none = np.zeros(n)
        brighter, contrasted = (colours.toned(factors[i], none) for i in range(2))
        matrices = np.stack([brighter, contrasted, colours.greyed(factors[2])])
        of_mean = np.stack([none, 1 - factors[1], none])
        images = np.arange(n)
        steps = [
            np.hstack(
                [
                    matrices[which, images, :3].reshape(n, 12),
                    of_mean[which, images][:, None],
                ]
            )
            for which in order
        ]
        return Drawn(np.hstack(steps).astype(np.float32))

    def apply(self, images: Tensor, drawn: PlacedNumbers) -> Tensor:
        """Every image with its three steps."""
        for step in torch.split(drawn.values, 13, dim=1):
            matrix = step[:, :12].clone()
            mean = colours.brightness_of(images).mean(dim=(2, 3))
            matrix[:, 3::4] += step[:, 12:] * mean
            # torchvision keeps whole numbers between its steps, cut and not rounded
            images = colours.coloured(images, matrix).floor_()
        return images


def _jitter(asked: Asked) -> Part:
    given, key = asked.given, asked.key
    if given.hue is not None:
        raise NotOnDevice("ColorJitter with hue")
    return Jitter(key, (given.brightness, given.contrast, given.saturation))


_KNOWN: dict[str, Callable[[Asked], Part]] = {
    "RandomHorizontalFlip": flip(0),
    "RandomVerticalFlip": flip(1),
    "RandomRotation": _rotation,
    "RandomAffine": _affine,
    "RandomResizedCrop": _crop,
    "RandomGrayscale": lambda asked: grey(asked.key, asked.given.p),
    "RandomInvert": lambda asked: inverted(asked.key, asked.given.p),
    "RandomErasing": _erasing,
    "GaussianBlur": _blur,
    "ColorJitter": _jitter,
}
TORCHVISION = Library(build_transform, _KNOWN, idle="Identity", prefix="torchvision.")
