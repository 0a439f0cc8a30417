"""Pixels of every kind as uint8: deep greys, colours of 16 bits, transparency."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensembler.data.formats import DEEP_MODES
from ensembler.data.jpeg import upright

# pixels converted at once, so that a conversion takes little beside the image itself
_BAND = 1 << 20


def to_uint8(image: Any, bits: int) -> NDArray[np.uint8]:
    """The pixels of a decoded image, converted band by band.

    No whole copy of it is made in another type.
    """
    convert = _conversion(image, bits)
    out: NDArray[np.uint8] | None = None
    for top, band in _bands(image):
        pixels = convert(band)
        if out is None:
            out = np.empty((image.height, *pixels.shape[1:]), np.uint8)
        out[top : top + len(pixels)] = pixels
    if out is None:
        raise ValueError("it has no pixels")
    return out


def _bands(image: Any) -> Iterator[tuple[int, Any]]:
    rows = max(1, _BAND // max(1, image.width))
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(image.height, top + rows)))


def _conversion(image: Any, bits: int) -> Callable[[Any], NDArray[np.uint8]]:
    """How a band of the image becomes uint8; `bits` are those of its grey levels."""
    if image.mode in DEEP_MODES:
        levels = _levels(bits)
        return lambda band: levels[np.asarray(band)]
    if image.mode == "I":
        # It holds 16 bits in nearly every file; Pillow's own conversion would clip them to white.
        # As it does not say how many bits it has, small values can only mean 8.
        return _scaled(255 / (2**bits - 1) if _highest(image) > 255 else 1.0)
    if image.mode == "F":
        return _scaled(255.0 if _highest(image) <= 1 else 1.0)
    if image.mode in ("L", "1"):
        return lambda band: np.asarray(band.convert("L"))
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        return _on_white
    return lambda band: np.asarray(band.convert("RGB"))


def _highest(image: Any) -> float:
    return max(
        (float(np.nanmax(np.asarray(band), initial=0)) for _, band in _bands(image)),
        default=0.0,
    )


def _scaled(factor: float) -> Callable[[Any], NDArray[np.uint8]]:
    def convert(band: Any) -> NDArray[np.uint8]:
        values = np.round(np.asarray(band) * factor)
        return np.clip(np.nan_to_num(values), 0, 255).astype(np.uint8)

    return convert


def _on_white(band: Any) -> NDArray[np.uint8]:
    from PIL import Image

    rgba = band.convert("RGBA")
    ground = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
    return np.asarray(Image.alpha_composite(ground, rgba).convert("RGB"))


def is_deep_colour(image: Any, content: bytes) -> bool:
    """Whether it has colours of 16 bits, of which Pillow keeps the upper 8."""
    if image.format == "PNG":
        return content[24] == 16 and content[25] in (2, 6)
    said = getattr(image, "tag_v2", {}).get(258)
    return isinstance(said, tuple) and len(said) >= 3 and said[0] == 16


def deep_colour(content: bytes, bits: int, orientation: int) -> NDArray[np.uint8]:
    """The colours of a file of 16 bits, of which `bits` are used, turned by its orientation."""
    import cv2

    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if image is None or image.dtype != np.uint16 or image.ndim != 3:
        raise ValueError("its 16-bit colours cannot be read")
    colour = _levels(bits)[image[:, :, 2::-1]]
    if image.shape[2] == 4:
        alpha = image[:, :, 3:] / np.float32(65535)
        colour = np.round(colour * alpha + 255 * (1 - alpha)).astype(np.uint8)
    return upright(np.ascontiguousarray(colour), orientation)


def _levels(bits: int) -> NDArray[np.uint8]:
    """What each of 65,536 levels becomes when those of `bits` bits are spread over 8.

    Higher ones are white.
    """
    return np.clip(np.round(np.arange(65536) * (255 / (2**bits - 1))), 0, 255).astype(
        np.uint8
    )
