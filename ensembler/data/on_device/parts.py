"""The transforms of a list as stages for whole batches: what both libraries' lists are made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensembler.data.augment_steps import name_and_arguments
from ensembler.data.counters import Numbers, Streams
from ensembler.data.on_device import colours
from ensembler.data.on_device.geometry import (
    DrawMaps,
    Geometry,
    Interpolation,
    Maps,
    maps_of,
    mirror,
    still,
    where,
)
from ensembler.data.on_device.stages import Stage

_TRIES = 10  # for a crop that fits, as both libraries have it


class NotOnDevice(Exception):
    """A transform that is not known on a device; its name."""


@dataclass(frozen=True)
class Asked:
    """A transform that its library has built, for images of `size`; `key` names its streams."""

    given: Any
    size: int
    key: str


@dataclass(frozen=True)
class Exact:
    """Geometry that moves whole pixels: mirror images and quarter turns."""

    draw: DrawMaps


@dataclass(frozen=True)
class Inside:
    """Geometry that looks at nothing beyond the edges: crops."""

    draw: DrawMaps


@dataclass(frozen=True)
class Beyond:
    """Geometry that sees what lies beyond the edges: a value, or the mirror image (None)."""

    draw: DrawMaps
    fill: float | None
    mode: Interpolation


Part = Exact | Inside | Beyond | Stage


@dataclass(frozen=True)
class Library:
    """The transforms of a library that are known on a device, by name.

    `build` makes one from a step of a list, for images of a size; the one called `idle` does
    nothing. `prefix` keeps the streams of a library's transforms apart from those of others.
    """

    build: Callable[[Any, int], Any]
    known: Mapping[str, Callable[[Asked], Part]]
    idle: str
    prefix: str = ""

    def parts_of(self, steps: Sequence[Any], size: int, first: int = 0) -> list[Part]:
        """The parts of a list; its transforms are numbered from `first` on.

        Raises NotOnDevice with the name of one that is not known.
        """
        parts: list[Part] = []
        for i, step in enumerate(steps, start=first):
            name, _ = name_and_arguments(step)
            if name == self.idle:
                continue
            if name not in self.known:
                raise NotOnDevice(name)
            given = self.build(step, size)
            parts.append(self.known[name](Asked(given, size, f"{i}.{self.prefix}{name}")))
        return parts


def stages_of(parts: Iterable[Part]) -> tuple[Stage, ...]:
    """The stages of some parts: geometry that follows geometry is one warp where that is the same.

    It is when nothing after a crop, or after a turn, looks beyond the edges that these have made.
    """
    stages: list[Stage] = []
    warp: list[Exact | Inside | Beyond] = []
    for part in parts:
        if not isinstance(part, (Exact, Inside, Beyond)):
            stages += [*_warp(warp), part]
            warp = []
            continue
        if isinstance(part, Beyond) and not all(isinstance(p, Exact) for p in warp):
            stages += _warp(warp)
            warp = []
        warp.append(part)
    return (*stages, *_warp(warp))


def _warp(parts: list[Exact | Inside | Beyond]) -> Iterator[Stage]:
    if not parts:
        return
    seeing = next((part for part in parts if isinstance(part, Beyond)), None)
    draws = [part.draw for part in parts]
    yield Geometry(draws) if seeing is None else Geometry(draws, seeing.fill, seeing.mode)


def symmetry(name: str, p: float, elements: Mapping[str, Maps] | list[Maps]) -> Exact:
    """With probability `p` one of several maps `[3, 3]`, each as likely."""
    listed = np.stack(
        list(elements.values() if isinstance(elements, Mapping) else elements)
    )

    def draw(streams: Streams) -> Maps:
        which = listed[streams.choice(f"{name}.which", len(listed))]
        return where(streams.happens(name, p), which)

    return Exact(draw)


def _map(a: int, b: int, c: int, d: int) -> Maps:
    return maps_of([(a, b), (c, d)], 1)[0]


# From places in the output to places in the input, by albumentations' names.
D4 = {
    "e": _map(1, 0, 0, 1),
    "r90": _map(0, -1, 1, 0),
    "r180": _map(-1, 0, 0, -1),
    "r270": _map(0, 1, -1, 0),
    "v": _map(1, 0, 0, -1),
    "hvt": _map(0, -1, -1, 0),
    "h": _map(-1, 0, 0, 1),
    "t": _map(0, 1, 1, 0),
}


def resized_crop(
    name: str, p: float, size: int, scale: tuple[float, float], ratio: tuple[float, float]
) -> Inside:
    """A part of the image, of whole pixels, scaled to the size of the whole.

    `scale` is its share of the area, `ratio` its width over its height; the first of ten that fits
    counts, else the whole image.
    """
    low, high = np.log(ratio)

    def draw(streams: Streams) -> Maps:
        n = len(streams)
        width, height = np.full(n, size), np.full(n, size)
        for i in reversed(range(_TRIES)):
            area = size**2 * streams.uniform(f"{name}.{i}.area", *scale)
            shape = np.exp(streams.uniform(f"{name}.{i}.ratio", low, high))
            w, h = np.rint(np.sqrt(area * shape)), np.rint(np.sqrt(area / shape))
            fits = (w > 0) & (w <= size) & (h > 0) & (h <= size)
            width, height = np.where(fits, w, width), np.where(fits, h, height)
        left = np.floor((size - width + 1) * streams.unit(f"{name}.left"))
        top = np.floor((size - height + 1) * streams.unit(f"{name}.top"))
        maps = maps_of(
            [
                (width / size, 0, (2 * left + width) / size - 1),
                (0, height / size, (2 * top + height) / size - 1),
            ],
            n,
        )
        return where(streams.happens(name, p), maps)

    return Inside(draw)


def inverse(forward: Maps, happens: NDArray[np.bool_]) -> Maps:
    """Maps from the output to the input, of maps the other way round where they happen."""
    return np.where(happens[:, None, None], np.linalg.inv(forward), still(len(forward)))


def rectangles(
    streams: Streams, name: str, size: int, height: Numbers, width: Numbers
) -> Numbers:
    """Boxes `[images, 4]` of whole pixels somewhere in the image: top, left, bottom, right."""
    top = np.floor((size - height + 1) * streams.unit(f"{name}.top"))
    left = np.floor((size - width + 1) * streams.unit(f"{name}.left"))
    return np.stack([top, left, top + height, left + width], axis=1)


def flip(axis: int) -> Callable[[Asked], Part]:
    """A mirror image left to right (`axis` 0) or upside down (1)."""
    return lambda asked: Exact(mirror(asked.key, asked.given.p, axis))


def grey(key: str, p: float) -> Part:
    """Colours that are lost with probability `p`."""

    def draw(streams: Streams) -> colours.Matrices:
        return colours.greyed(np.where(streams.happens(key, p), 0.0, 1.0))

    return colours.Colours([draw], seldom=True)


def inverted(key: str, p: float) -> Part:
    """A negative with probability `p`."""

    def draw(streams: Streams) -> colours.Matrices:
        happens = streams.happens(key, p).astype(float)
        return colours.toned(1 - 2 * happens, 255 * happens)

    return colours.Colours([draw], seldom=True)


def only_plain(name: str, transform: Any, **wanted: Any) -> None:
    """Raise NotOnDevice when options differ from those that are known on a device."""
    for option, value in wanted.items():
        if getattr(transform, option) != value:
            raise NotOnDevice(f"{name} with {option}: {getattr(transform, option)}")
