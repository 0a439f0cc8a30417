"""A preset of augmentation (`data/presets.py`) as stages for whole batches."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from ensembler.data.counters import Numbers, Streams
from ensembler.data.on_device import blur, colours, geometry, holes, noise
from ensembler.data.on_device.stages import DeviceAugment, Stage
from ensembler.data.presets import (
    MIDDLE,
    Affine,
    Blur,
    Crop,
    Holes,
    Hue,
    Noise,
    Preset,
    Tone,
)


def device_preset(preset: Preset, size: int, channels: int) -> DeviceAugment:
    """The stages that draw from a preset's distributions what `presets.draw` draws from them."""
    return DeviceAugment(tuple(_stages(preset, size, channels)))


def _stages(preset: Preset, size: int, channels: int) -> Iterator[Stage]:
    warps = [geometry.mirror("flip", preset.flip)] if preset.flip else []
    if preset.crop is not None:
        warps.insert(0, _crop(preset.crop))
    if preset.affine is not None:
        warps.append(_affine(preset.affine))
    if warps:
        yield geometry.Geometry(warps)
    lights = [] if preset.tone is None else [_tone(preset.tone)]
    if preset.hue is not None and channels == 3:
        lights.append(_hue(preset.hue))
    if lights:
        yield colours.Colours(lights)
    if preset.blur is not None:
        yield _blur(preset.blur, size)
    if preset.noise is not None:
        yield _noise(preset.noise)
    if preset.holes is not None:
        yield _holes(preset.holes, size)


def _crop(crop: Crop) -> geometry.DrawMaps:
    low, high = np.log(crop.ratio)

    def draw(streams: Streams) -> geometry.Maps:
        area = streams.uniform("crop.area", *crop.area)
        ratio = np.exp(streams.uniform("crop.ratio", low, high))
        width = np.minimum(1, np.sqrt(area * ratio))
        height = np.minimum(1, np.sqrt(area / ratio))
        x = (1 - width) * streams.around("crop.x", 1)
        y = (1 - height) * streams.around("crop.y", 1)
        happens = streams.happens("crop", crop.p)
        return geometry.where(happens, geometry.parts_of_images(width, height, x, y))

    return draw


def _affine(affine: Affine) -> geometry.DrawMaps:
    def draw(streams: Streams) -> geometry.Maps:
        turned = geometry.turned(
            streams.around("affine.rotate", affine.rotate),
            1 + streams.around("affine.scale", affine.scale),
            streams.around("affine.right", affine.shift),
            streams.around("affine.down", affine.shift),
        )
        return geometry.where(streams.happens("affine", affine.p), turned)

    return draw


def _tone(tone: Tone) -> colours.DrawMatrices:
    def draw(streams: Streams) -> colours.Matrices:
        happens = streams.happens("tone", tone.p)
        contrast = happens * streams.around("tone.contrast", tone.contrast)
        brightness = happens * streams.around("tone.brightness", tone.brightness)
        return colours.toned(1 + contrast, 255 * brightness - MIDDLE * contrast)

    return draw


def _hue(hue: Hue) -> colours.DrawMatrices:
    def draw(streams: Streams) -> colours.Matrices:
        happens = streams.happens("hue", hue.p)
        degrees = happens * streams.around("hue.degrees", hue.degrees)
        saturation = 1 + happens * streams.around("hue.saturation", hue.saturation)
        return colours.hued(degrees, saturation)

    return draw


def _blur(part: Blur, size: int) -> Stage:
    def sigmas(streams: Streams) -> Numbers:
        drawn = streams.uniform("blur.sigma", *part.sigma)
        return size * drawn * streams.happens("blur", part.p)

    widest = blur.radius_of_opencv(torch.tensor(size * part.sigma[1]))
    return blur.Blur(sigmas, int(widest), blur.radius_of_opencv)


def _noise(part: Noise) -> Stage:
    def stds(streams: Streams) -> Numbers:
        return (
            255 * streams.uniform("noise.std", *part.std) * streams.happens("noise", part.p)
        )

    return noise.Noise(stds)


def _holes(part: Holes, size: int) -> Stage:
    def boxes(streams: Streams) -> Numbers:
        happens = streams.happens("holes", part.p)
        count = happens * (1 + streams.choice("holes.count", part.most))
        return np.stack(
            [_box(part, size, streams, i, i < count) for i in range(part.most)], axis=1
        )

    return holes.Holes(boxes)


def _box(
    part: Holes, size: int, streams: Streams, nth: int, is_there: NDArray[np.bool_]
) -> Numbers:
    """Top, left, bottom and right of the nth hole of each image, `[images, 4]`."""
    height = streams.uniform(f"holes.{nth}.height", *part.side)
    width = streams.uniform(f"holes.{nth}.width", *part.side)
    top = (1 - height) * streams.unit(f"holes.{nth}.top")
    left = (1 - width) * streams.unit(f"holes.{nth}.left")
    box = np.stack([top, left, top + height, left + width], axis=1)
    return np.rint(size * box) * is_there[:, None]
