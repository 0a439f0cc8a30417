"""Batches of an input's pixels where the network computes.

On a processor they are read from the mapped file. On a device they are gathered from the pixels
that stay there; images that do not fit are copied ahead of the computing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ensembler.data.on_device.store import DeviceStore, PlacedPixels, store_of
from ensembler.data.on_device.streaming import streamed
from ensembler.data.pixels import Pixels
from ensembler.progress import QUIET, Progress

Rows = NDArray[np.int64]


class Feed(Protocol):
    """The pixels of one input, given out on a device."""

    @property
    def device(self) -> torch.device:
        """Where its batches are."""
        ...

    def batches(self, batches: Sequence[Rows]) -> AbstractContextManager[Iterator[Tensor]]:
        """The images of each batch in order: uint8 `[rows, channels, height, width]`.

        Their memory is channels-last. What a batch holds is nobody else's and may be kept.
        """
        ...

    def batch(self, rows: Rows) -> Tensor:
        """One batch, where it is not known before which ones will be wanted."""
        ...


def feed_of(
    pixels: Pixels,
    device: torch.device,
    first: Rows | None = None,
    progress: Progress = QUIET,
) -> Feed:
    """The feed of an input on a device.

    Images in `first`, those that are trained on, go first where not all fit on the device.
    """
    if device.type == "cpu":
        return MappedFeed(pixels)
    return DeviceFeed(store_of(device), pixels, first, progress)


def batches_of(rows: Rows, batch_size: int) -> list[Rows]:
    """Rows in batches, in their order."""
    return [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]


@dataclass(frozen=True)
class MappedFeed:
    """Batches for a processor: as they are read."""

    pixels: Pixels

    @property
    def device(self) -> torch.device:
        """The processor."""
        return torch.device("cpu")

    @contextmanager
    def batches(self, batches: Sequence[Rows]) -> Iterator[Iterator[Tensor]]:
        """The images of each batch in order."""
        yield (self.batch(rows) for rows in batches)

    def batch(self, rows: Rows) -> Tensor:
        """One batch."""
        return _channels_first(torch.from_numpy(self.pixels[rows]))


@dataclass(frozen=True)
class DeviceFeed:
    """Batches on a device: gathered from what is there, the others copied to it."""

    store: DeviceStore
    pixels: Pixels
    first: Rows | None = None
    progress: Progress = QUIET

    @property
    def device(self) -> torch.device:
        """The store's device."""
        return self.store.card.device

    @contextmanager
    def batches(self, batches: Sequence[Rows]) -> Iterator[Iterator[Tensor]]:
        """The images of each batch in order."""
        placed = self.store.place(self.pixels, self.first, self.progress)
        # another fold may have placed them, and they may leave while this one computes with them
        self.store.card.keep(placed.pixels)
        missing = [rows[placed.place_of[rows] < 0] for rows in batches]
        to_copy = [rows for rows in missing if len(rows)]
        with streamed(self.store.card, self.pixels, to_copy) as copied:
            yield self._gathered(placed, batches, missing, copied)

    def batch(self, rows: Rows) -> Tensor:
        """One batch."""
        with self.batches([rows]) as found:
            return next(found)

    def _gathered(
        self,
        placed: PlacedPixels,
        batches: Sequence[Rows],
        missing: Sequence[Rows],
        copied: Iterator[Tensor],
    ) -> Iterator[Tensor]:
        # All places go to the device at once: a copy for each batch would be waited for.
        places = _on(self.device, placed.place_of[_joined(batches)])
        at = 0
        for rows, absent in zip(batches, missing, strict=True):
            here, at = places[at : at + len(rows)], at + len(rows)
            if not len(absent):
                yield _channels_first(placed.pixels.index_select(0, here))
            elif len(absent) == len(rows):
                yield _channels_first(next(copied))
            else:
                is_absent = placed.place_of[rows] < 0
                yield _channels_first(
                    _merged(placed.pixels, here, next(copied), is_absent, self.device)
                )


def _merged(
    there: Tensor,
    places: Tensor,
    copied: Tensor,
    is_absent: NDArray[np.bool_],
    device: torch.device,
) -> Tensor:
    """A batch of which some images are on the device and the others were copied to it."""
    out = there.index_select(0, places.clamp(min=0))
    return out.index_copy_(0, _on(device, np.flatnonzero(is_absent)), copied)


def _on(device: torch.device, numbers: NDArray[np.int64]) -> Tensor:
    return torch.from_numpy(numbers).to(device)


def _joined(batches: Sequence[Rows]) -> Rows:
    return np.concatenate(batches) if batches else np.zeros(0, np.int64)


def _channels_first(images: Tensor) -> Tensor:
    """`[n, h, w, c]` seen as `[n, c, h, w]`, channels-last in memory."""
    return images.permute(0, 3, 1, 2)
