"""The augmentation presets: what is drawn for an image, as data, and one draw from it for a seed.

A draw is a few numbers: one matrix for all of its geometry, one for its colours, and what remains.
Whatever computes pixels takes these numbers and draws nothing but noise, so that all ways to
compute them give the same images.
"""

from __future__ import annotations

import hashlib
import math
import random
from dataclasses import dataclass

Row3 = tuple[float, float, float]
Row4 = tuple[float, float, float, float]
# from places in the output to places in the input, both from -1 to 1 from edge to edge
Warp = tuple[Row3, Row3]
ColourMatrix = tuple[Row4, Row4, Row4]  # from RGB and 1 to RGB, 0 to 255

AS_IT_IS: Warp = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))
MIRRORED: Warp = ((-1.0, 0.0, 0.0), (0.0, 1.0, 0.0))
MIDDLE = 127.5


@dataclass(frozen=True)
class Crop:
    """With probability `p`, a part of the image, scaled to the size of the whole.

    `area` is its share of the area, `ratio` its width over its height.
    """

    p: float
    area: tuple[float, float]
    ratio: tuple[float, float] = (0.8, 1.25)


@dataclass(frozen=True)
class Affine:
    """With probability `p`, a rotation, a change of scale and a shift, up to the given amounts.

    They are in degrees, as a share of the scale, and as a share of the side.
    """

    p: float
    rotate: float
    scale: float
    shift: float


@dataclass(frozen=True)
class Tone:
    """With probability `p`, a change of brightness and contrast.

    Brightness changes up to a share of white, contrast about the middle up to a share of itself.
    """

    p: float
    brightness: float
    contrast: float


@dataclass(frozen=True)
class Hue:
    """With probability `p`, a change of hue and saturation.

    Hues turn by up to so many degrees, saturation changes up to a share of itself (not of grey).
    """

    p: float
    degrees: float
    saturation: float


@dataclass(frozen=True)
class Blur:
    """With probability `p`, a Gaussian blur; `sigma` as a share of the side."""

    p: float
    sigma: tuple[float, float]


@dataclass(frozen=True)
class Noise:
    """With probability `p`, Gaussian noise; its standard deviation as a share of white."""

    p: float
    std: tuple[float, float]


@dataclass(frozen=True)
class Holes:
    """With probability `p`, up to `most` rectangles of the mean colour.

    Each side as a share of the image's.
    """

    p: float
    most: int
    side: tuple[float, float] = (0.1, 0.25)


@dataclass(frozen=True)
class Preset:
    """What may happen to an image, each part independently of the rest.

    `flip` = probability of a mirror image.
    """

    flip: float = 0.0
    crop: Crop | None = None
    affine: Affine | None = None
    tone: Tone | None = None
    hue: Hue | None = None
    blur: Blur | None = None
    noise: Noise | None = None
    holes: Holes | None = None

    @property
    def digest(self) -> str:
        """A short sign of these numbers: a preset that is set anew is another augmentation."""
        return hashlib.sha256(repr(self).encode()).hexdigest()[:8]


PRESETS: dict[str, Preset] = {
    "none": Preset(),
    "light": Preset(flip=0.5, affine=Affine(p=0.5, rotate=6, scale=0.06, shift=0.05)),
    "medium": Preset(
        flip=0.5,
        affine=Affine(p=0.6, rotate=8, scale=0.08, shift=0.06),
        tone=Tone(p=0.4, brightness=0.15, contrast=0.15),
        holes=Holes(p=0.2, most=1),
    ),
    "heavy": Preset(
        flip=0.5,
        crop=Crop(p=0.6, area=(0.6, 1.0)),
        affine=Affine(p=0.5, rotate=10, scale=0.08, shift=0.06),
        tone=Tone(p=0.6, brightness=0.2, contrast=0.2),
        hue=Hue(p=0.3, degrees=10, saturation=0.3),
        blur=Blur(p=0.05, sigma=(0.008, 0.016)),
        noise=Noise(p=0.05, std=(0.02, 0.05)),
        holes=Holes(p=0.4, most=1),
    ),
}


@dataclass(frozen=True)
class Hole:
    """A rectangle, in shares of the sides."""

    top: float
    left: float
    height: float
    width: float


@dataclass(frozen=True)
class Draw:
    """What happens to one image, in this order.

    `blur` as a share of the side, `noise` as one of white, 0 = none.
    """

    warp: Warp
    colours: ColourMatrix | None
    blur: float
    noise: float
    holes: tuple[Hole, ...]


def draw(preset: Preset, seed: int) -> Draw:
    """Draw what happens to an image; equal seeds draw the same."""
    rng = random.Random(seed)
    return Draw(
        warp=_drawn_warp(preset, rng),
        colours=_drawn_colours(preset, rng),
        blur=0.0
        if preset.blur is None
        else _strength(preset.blur.p, preset.blur.sigma, rng),
        noise=0.0
        if preset.noise is None
        else _strength(preset.noise.p, preset.noise.std, rng),
        holes=() if preset.holes is None else _drawn_holes(preset.holes, rng),
    )


def _happens(p: float, rng: random.Random) -> bool:
    return rng.random() < p


def _around(most: float, rng: random.Random) -> float:
    return rng.uniform(-most, most)


def _strength(p: float, limits: tuple[float, float], rng: random.Random) -> float:
    return rng.uniform(*limits) if _happens(p, rng) else 0.0


def _drawn_warp(preset: Preset, rng: random.Random) -> Warp:
    # One after the other in the image: crop, flip, affine; so from the output: affine, flip, crop.
    warp = MIRRORED if _happens(preset.flip, rng) else AS_IT_IS
    if preset.affine is not None and _happens(preset.affine.p, rng):
        warp = _after(warp, _drawn_affine(preset.affine, rng))
    if preset.crop is not None and _happens(preset.crop.p, rng):
        warp = _after(_drawn_crop(preset.crop, rng), warp)
    return warp


def _after(second: Warp, first: Warp) -> Warp:
    """The map that goes through `first` and then through `second`."""
    (a, b, c), (d, e, f) = first
    top, bottom = ((s * a + t * d, s * b + t * e, s * c + t * f + u) for s, t, u in second)
    return top, bottom


def _drawn_affine(affine: Affine, rng: random.Random) -> Warp:
    angle = math.radians(_around(affine.rotate, rng))
    scale = 1 + _around(affine.scale, rng)
    cos, sin = math.cos(angle) / scale, math.sin(angle) / scale
    right, down = 2 * _around(affine.shift, rng), 2 * _around(affine.shift, rng)
    return (cos, sin, -cos * right - sin * down), (-sin, cos, sin * right - cos * down)


def _drawn_crop(crop: Crop, rng: random.Random) -> Warp:
    area = rng.uniform(*crop.area)
    low, high = crop.ratio
    ratio = math.exp(rng.uniform(math.log(low), math.log(high)))
    width, height = min(1.0, math.sqrt(area * ratio)), min(1.0, math.sqrt(area / ratio))
    return (width, 0.0, _around(1 - width, rng)), (0.0, height, _around(1 - height, rng))


def _drawn_colours(preset: Preset, rng: random.Random) -> ColourMatrix | None:
    gain, offset, cos, sin = 1.0, 0.0, 1.0, 0.0
    if preset.tone is not None and _happens(preset.tone.p, rng):
        gain = 1 + _around(preset.tone.contrast, rng)
        offset = MIDDLE * (1 - gain) + 255 * _around(preset.tone.brightness, rng)
    if preset.hue is not None and _happens(preset.hue.p, rng):
        angle = math.radians(_around(preset.hue.degrees, rng))
        saturation = 1 + _around(preset.hue.saturation, rng)
        cos, sin = saturation * math.cos(angle), saturation * math.sin(angle)
    if (gain, offset, cos, sin) == (1.0, 0.0, 1.0, 0.0):
        return None
    # A turn about the grey axis, which stays where it is; saturation is the distance from it.
    same = gain * (1 + 2 * cos) / 3
    next_, last = (gain * ((1 - cos) / 3 + sign * sin / math.sqrt(3)) for sign in (-1, 1))
    return (
        (same, next_, last, offset),
        (last, same, next_, offset),
        (next_, last, same, offset),
    )


def _drawn_holes(holes: Holes, rng: random.Random) -> tuple[Hole, ...]:
    if not _happens(holes.p, rng):
        return ()
    return tuple(_drawn_hole(holes, rng) for _ in range(rng.randint(1, holes.most)))


def _drawn_hole(holes: Holes, rng: random.Random) -> Hole:
    height, width = rng.uniform(*holes.side), rng.uniform(*holes.side)
    return Hole(rng.uniform(0, 1 - height), rng.uniform(0, 1 - width), height, width)
