"""Augmentation of whole batches where the network computes.

An augmentation is a few stages. What a stage does to each image is drawn on the host for many
images at once, by counting (`data/counters.py`): it depends on seed, fold, epoch, image, draw and
stage alone, not on the batch, its neighbours or the number of processes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ensembler.data.counters import Numbers, Streams

Values = NDArray[np.float32]
Draws = Callable[[Streams], Numbers]


@dataclass(frozen=True)
class Drawn:
    """What was drawn for images: `values` float32 `[images, numbers of the stage]`.

    `happens` `[images]` says to which of them anything happens; None = to all, or to so many that
    all are computed.
    """

    values: Values
    happens: NDArray[np.bool_] | None = None


class Stage(Protocol):
    """One thing that happens to images."""

    def draw(self, streams: Streams) -> Drawn:
        """What happens to each image."""
        ...

    def apply(self, images: Tensor, drawn: PlacedNumbers) -> Tensor:
        """The images changed: float32 `[images, channels, height, width]`, 0 to 255."""
        ...


@dataclass(frozen=True)
class PlacedNumbers:
    """What a stage has drawn, on the device: `values` float32 `[images, numbers]`.

    `keys` int64 `[images]` are for what is drawn for each pixel.
    """

    values: Tensor
    keys: Tensor

    def of(self, which: slice | Tensor) -> PlacedNumbers:
        """The numbers of some of the images."""
        return PlacedNumbers(self.values[which], self.keys[which])


@dataclass(frozen=True)
class DeviceAugment:
    """Stages that are applied one after the other to whole batches."""

    stages: tuple[Stage, ...]

    def draw(self, streams: Streams) -> DrawnImages:
        """What happens to each image."""
        keys = streams.keys.view(np.int64)
        return DrawnImages(keys, tuple(stage.draw(streams) for stage in self.stages))

    def apply(self, images: Tensor, drawn: DrawnImages) -> Tensor:
        """The images changed: uint8 `[images, channels, height, width]`, channels last."""
        return self.apply_placed(images, drawn.on(images.device), slice(None))

    @torch.no_grad()
    def apply_placed(self, images: Tensor, drawn: PlacedImages, which: slice) -> Tensor:
        """The same with what was drawn on the device already, `which` of it for these images."""
        changed = images.float()
        for stage, numbers, happens in zip(
            self.stages, drawn.numbers, drawn.happens, strict=True
        ):
            of_batch = numbers.of(which)
            if happens is None:
                changed = stage.apply(changed, of_batch)
                continue
            chosen = np.flatnonzero(happens[which])
            if len(chosen):
                some = torch.from_numpy(chosen).to(images.device)
                part = stage.apply(changed[some], of_batch.of(some))
                # not in place: a stage before may have left what it was given
                changed = changed.index_copy(0, some, part)
        rounded = changed.round_().clamp_(0, 255) if self.stages else changed
        return rounded.to(torch.uint8, memory_format=torch.channels_last)


@dataclass(frozen=True)
class DrawnImages:
    """What happens to images, by stage; `keys` int64 `[images]`."""

    keys: NDArray[np.int64]
    stages: tuple[Drawn, ...]

    def on(self, device: torch.device) -> PlacedImages:
        """The same where it is applied."""
        keys = torch.from_numpy(self.keys).to(device)
        values = _split([drawn.values for drawn in self.stages], device)
        return PlacedImages(
            tuple(PlacedNumbers(of_stage, keys) for of_stage in values),
            tuple(drawn.happens for drawn in self.stages),
        )


@dataclass(frozen=True)
class PlacedImages:
    """What happens to images by stage, on a device."""

    numbers: tuple[PlacedNumbers, ...]
    happens: tuple[NDArray[np.bool_] | None, ...]


def _split(stages: Sequence[Values], device: torch.device) -> Sequence[Tensor]:
    """The values of all stages, copied to the device at once."""
    if not stages:
        return ()
    together = torch.from_numpy(np.concatenate(stages, axis=1)).to(device)
    return torch.split(together, [values.shape[1] for values in stages], dim=1)
