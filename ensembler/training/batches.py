"""Batches of augmented pixels, the same with any number of workers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ensembler.data.augment_steps import Augment
from ensembler.data.augmenting import augmented, seeds_of
from ensembler.data.counters import Keys, keys_of
from ensembler.data.on_device.stages import DeviceAugment
from ensembler.data.pixels import Pixels


@dataclass(frozen=True)
class BatchSource:
    """The batches of one epoch by position; each can be made alone, by any process.

    `pixels` are uint8 `[images, height, width, channels]`, `targets` int64 `[images]`, `batches`
    positions among the images. A sample's augmentation depends on `key` (run seed, fold, epoch),
    its position, and how often it was drawn before in the epoch. Images in `first` are the ones to
    keep on a device that cannot hold all.
    """

    pixels: Pixels
    targets: NDArray[np.int64]
    batches: Sequence[NDArray[np.int64]]
    augment: Augment | DeviceAugment | None
    key: tuple[int, ...]
    first: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.batches)

    def keys(self, indices: Sequence[int]) -> Keys:
        """The keys of the images in some batches, for what is drawn for many at once."""
        rows = np.concatenate([self.batches[i] for i in indices])
        again = np.concatenate([self.drawn_before[i] for i in indices])
        return keys_of(self.key, rows, again)

    @cached_property
    def drawn_before(self) -> list[NDArray[np.int64]]:
        """How often each row of each batch came before in the epoch."""
        rows = np.concatenate(self.batches)
        order = np.argsort(rows, kind="stable")
        # where each row's draws begin, in order of rows
        first = np.flatnonzero(np.diff(rows[order], prepend=-1))
        before = np.empty(len(rows), dtype=np.int64)
        before[order] = np.arange(len(rows)) - np.repeat(
            first, np.diff(first, append=len(rows))
        )
        return np.split(before, np.cumsum([len(batch) for batch in self.batches])[:-1])

    def images(self, index: int) -> Tensor:
        """The images of a batch, augmented here: uint8 `[rows, channels, height, width]`."""
        rows, augment = self.batches[index], self.augment
        assert not isinstance(augment, DeviceAugment)
        if augment is None:
            images = self.pixels[rows]
        else:
            seeds = seeds_of(self.key, rows, self.drawn_before[index])
            images = augmented(self.pixels, augment, rows, seeds)
        # [n, h, w, c] seen as [n, c, h, w] is channels-last already.
        return torch.from_numpy(images).permute(0, 3, 1, 2)


def epoch_batches(
    rows: NDArray[np.int64], batch_size: int, rng: np.random.Generator
) -> list[NDArray[np.int64]]:
    """Shuffle `rows` into batches.

    A last batch of one joins the one before, for batch norm cannot learn from one.
    """
    order = rng.permutation(rows)
    batches = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    if len(batches) > 1 and len(batches[-1]) == 1 and batch_size > 1:
        last = batches.pop()
        batches[-1] = np.concatenate([batches[-1], last])
    return batches
