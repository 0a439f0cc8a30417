"""Presets of augmentation.

All of an image's geometry is one interpolation, all of its colours one matrix.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ensembler.data.presets import (
    AS_IT_IS,
    MIRRORED,
    ColourMatrix,
    Draw,
    Hole,
    Preset,
    Warp,
    draw,
)
from ensembler.data.size import Size, sides


class PresetAugment:
    """A preset of augmentation.

    All of an image's geometry is one interpolation, all of its colours one matrix.
    """

    def __init__(self, preset: Preset, size: Size, channels: int) -> None:
        self.preset = replace(preset, hue=None) if channels == 1 else preset
        self.side = min(sides(size))

    def __call__(self, image: NDArray[np.uint8], seed: int) -> NDArray[np.uint8]:
        """Augment one image `[height, width, channels]`; the same seed gives the same image."""
        return self.apply(image, draw(self.preset, seed), seed)

    def apply(self, image: NDArray[np.uint8], drawn: Draw, seed: int) -> NDArray[np.uint8]:
        """Do to an image what was drawn; `seed` is that of the noise."""
        image = _warped(image, drawn.warp)
        if drawn.colours is not None:
            image = _coloured(image, drawn.colours)
        if drawn.blur:
            image = _blurred(image, drawn.blur * self.side)
        if drawn.noise:
            image = _noisy(image, 255 * drawn.noise, seed)
        return _with_holes(image, drawn.holes) if drawn.holes else image


def _warped(image: NDArray[np.uint8], warp: Warp) -> NDArray[np.uint8]:
    import cv2

    if warp == AS_IT_IS:
        return image
    if warp == MIRRORED:
        return np.ascontiguousarray(image[:, ::-1])
    height, width = image.shape[:2]
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    # What a picture is warped out of goes on as its mirror image: no edges that were not there.
    out = cv2.warpAffine(
        image,
        _in_pixels(warp, height, width),
        (width, height),
        flags=flags,
        borderMode=cv2.BORDER_REFLECT,
    )
    return out.reshape(image.shape)  # OpenCV drops an axis of one channel


def _in_pixels(warp: Warp, height: int, width: int) -> NDArray[np.float64]:
    """The same map between pixel numbers, whose centres lie half a pixel inside the edges."""
    (a, b, c), (d, e, f) = warp
    x = [
        a,
        b * width / height,
        0.5 * (width * (1 + c - a - b) + a + b * width / height - 1),
    ]
    y = [
        d * height / width,
        e,
        0.5 * (height * (1 + f - d - e) + d * height / width + e - 1),
    ]
    return np.array([x, y])


def _coloured(image: NDArray[np.uint8], colours: ColourMatrix) -> NDArray[np.uint8]:
    import cv2

    matrix = np.array(colours)
    if image.shape[2] == 1:  # a grey image is a colour image whose channels are the same
        matrix = np.array([[matrix[0, :3].sum(), matrix[0, 3]]])
    return cv2.transform(image, matrix).reshape(image.shape)


def _blurred(image: NDArray[np.uint8], sigma: float) -> NDArray[np.uint8]:
    import cv2

    return cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_REFLECT).reshape(
        image.shape
    )


def _noisy(image: NDArray[np.uint8], std: float, seed: int) -> NDArray[np.uint8]:
    noise = np.random.default_rng(seed).standard_normal(image.shape, dtype=np.float32)
    return np.clip(np.rint(image + std * noise), 0, 255).astype(np.uint8)


def _with_holes(image: NDArray[np.uint8], holes: Sequence[Hole]) -> NDArray[np.uint8]:
    height, width, channels = image.shape
    colour = np.rint(image.reshape(-1, channels).mean(axis=0))
    out = image.copy()
    for hole in holes:
        top, left = round(hole.top * height), round(hole.left * width)
        bottom, right = (
            round((hole.top + hole.height) * height),
            round((hole.left + hole.width) * width),
        )
        out[top:bottom, left:right] = colour
    return out
