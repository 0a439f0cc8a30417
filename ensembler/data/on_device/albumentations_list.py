"""Lists of albumentations' transforms as stages for whole batches, those that are known here.

Each transform is built by albumentations, which checks its arguments; what it would draw is drawn
from its own ranges.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ensembler.data.albumentations_augment import build_transform
from ensembler.data.counters import Numbers, Streams
from ensembler.data.on_device import colours, geometry
from ensembler.data.on_device.holes import Holes
from ensembler.data.on_device.noise import Noise
from ensembler.data.on_device.parts import (
    D4,
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
    symmetry,
)

_LINEAR, _CONSTANT, _MIRRORED = 1, 0, 2  # OpenCV's numbers
_QUARTERS = ("e", "r90", "r180", "r270")


def _one_of(*elements: str) -> Callable[[Asked], Part]:
    maps = [D4[element] for element in elements]
    return lambda asked: symmetry(asked.key, asked.given.p, maps)


def _rotate(asked: Asked) -> Part:
    given, key = asked.given, asked.key
    only_plain("Rotate", given, interpolation=_LINEAR, crop_border=False)

    def draw(streams: Streams) -> geometry.Maps:
        degrees = streams.uniform(f"{key}.degrees", *given.limit)
        still = np.zeros(len(streams))
        # anticlockwise
        turned = geometry.turned(-degrees, still + 1, still, still)
        return geometry.where(streams.happens(key, given.p), turned)

    return Beyond(draw, _fill("Rotate", given), "bilinear")


def _affine(asked: Asked) -> Part:
    given, size, key = asked.given, asked.size, asked.key
    only_plain(
        "Affine", given, interpolation=_LINEAR, fit_output=False, balanced_scale=False
    )

    def drawn(streams: Streams, name: str, limits: Any) -> Numbers:
        low, high = limits
        return streams.uniform(f"{key}.{name}", low, high)

    def shift(streams: Streams, axis: str) -> Numbers:
        """In whole pixels."""
        if given.translate_px is not None:
            low, high = (int(limit) for limit in given.translate_px[axis])
            return low + streams.choice(f"{key}.shift.{axis}", high - low + 1).astype(float)
        if given.translate_percent is None:
            return np.zeros(len(streams))
        return np.trunc(
            size * drawn(streams, f"shift.{axis}", given.translate_percent[axis])
        )

    def draw(streams: Streams) -> geometry.Maps:
        n = len(streams)
        x, y = (drawn(streams, f"scale.{axis}", given.scale[axis]) for axis in "xy")
        scale = geometry.maps_of([(x, 0), (0, x if given.keep_ratio else y)], n)
        turn = np.radians(drawn(streams, "rotate", given.rotate))
        cos, sin = np.cos(turn), np.sin(turn)
        rotation = geometry.maps_of([(cos, sin), (-sin, cos)], n)
        slant = [
            np.tan(np.radians(-drawn(streams, f"shear.{axis}", given.shear[axis])))
            for axis in "xy"
        ]
        shear = geometry.maps_of([(1, slant[0]), (slant[1], 1)], n)
        right, down = (2 * shift(streams, axis) / size for axis in "xy")
        moved = geometry.maps_of([(1, 0, right), (0, 1, down)], n)
        return inverse(moved @ shear @ rotation @ scale, streams.happens(key, given.p))

    return Beyond(draw, _fill("Affine", given), "bilinear")


def _fill(name: str, given: Any) -> float | None:
    """What lies beyond the edges; None = the mirror image."""
    if given.border_mode == _MIRRORED:
        return None
    only_plain(name, given, border_mode=_CONSTANT)
    if not isinstance(given.fill, (int, float)):
        raise NotOnDevice(f"{name} with fill: {given.fill}")
    return float(given.fill)


def _crop(asked: Asked) -> Part:
    given, size, key = asked.given, asked.size, asked.key
    only_plain("RandomResizedCrop", given, interpolation=_LINEAR, size=(size, size))
    return resized_crop(key, given.p, size, given.scale, given.ratio)


def _tone(asked: Asked) -> Part:
    given, key = asked.given, asked.key
    only_plain(
        "RandomBrightnessContrast", given, brightness_by_max=True, ensure_safe_range=False
    )

    def draw(streams: Streams) -> colours.Matrices:
        happens = streams.happens(key, given.p)
        contrast = streams.uniform(f"{key}.contrast", *given.contrast_limit)
        brightness = streams.uniform(f"{key}.brightness", *given.brightness_limit)
        return colours.toned(1 + happens * contrast, 255 * happens * brightness)

    return colours.Colours([draw], seldom=True)


def _noise(asked: Asked) -> Part:
    given, key = asked.given, asked.key
    only_plain(
        "GaussNoise", given, mean_range=(0, 0), per_channel=True, noise_scale_factor=1
    )

    def stds(streams: Streams) -> Numbers:
        std = 255 * streams.uniform(f"{key}.std", *given.std_range)
        return std * streams.happens(key, given.p)

    return Noise(stds, key)


def _dropout(asked: Asked) -> Part:
    given, size, key = asked.given, asked.size, asked.key
    if not isinstance(given.fill, (int, float)):
        raise NotOnDevice(f"CoarseDropout with fill: {given.fill}")
    low, high = given.num_holes_range

    def side(streams: Streams, name: str, limits: Any) -> Numbers:
        if given.hole_height_range[1] >= 1:
            least, most = int(limits[0]), int(min(limits[1], size))
            return least + streams.choice(name, most - least + 1).astype(float)
        return np.floor(size * streams.uniform(name, *limits))

    def boxes(streams: Streams) -> Numbers:
        count = low + streams.choice(f"{key}.count", high - low + 1)
        count = count * streams.happens(key, given.p)
        found = []
        for i in range(high):
            hole = f"{key}.{i}"
            height = side(streams, f"{hole}.height", given.hole_height_range)
            width = side(streams, f"{hole}.width", given.hole_width_range)
            box = rectangles(streams, hole, size, height, width)
            found.append(box * (i < count)[:, None])
        return np.stack(found, axis=1)

    return Holes(boxes, float(given.fill))


def _grey(asked: Asked) -> Part:
    only_plain("ToGray", asked.given, method="weighted_average", num_output_channels=3)
    return grey(asked.key, asked.given.p)


_KNOWN: dict[str, Callable[[Asked], Part]] = {
    "HorizontalFlip": flip(0),
    "VerticalFlip": flip(1),
    "Transpose": _one_of("t"),
    "RandomRotate90": _one_of(*_QUARTERS),
    "D4": _one_of(*D4),
    "SquareSymmetry": _one_of(*D4),
    "Rotate": _rotate,
    "Affine": _affine,
    "RandomResizedCrop": _crop,
    "RandomBrightnessContrast": _tone,
    "ToGray": _grey,
    "InvertImg": lambda asked: inverted(asked.key, asked.given.p),
    "GaussNoise": _noise,
    "CoarseDropout": _dropout,
}
ALBUMENTATIONS = Library(build_transform, _KNOWN, idle="NoOp")
