"""Batches on their way to the device, whoever makes them.

Where nothing is augmented, or the device does it, they come from its feed
(`data/on_device/feed.py`). What the host augments is made by this process or by others
(`host_workers.py`) and copied ahead of the computing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ensembler.data.counters import Streams
from ensembler.data.on_device.card import card_of
from ensembler.data.on_device.feed import feed_of
from ensembler.data.on_device.stages import DeviceAugment, PlacedImages
from ensembler.data.on_device.streaming import copied
from ensembler.networks.devices import copies_early
from ensembler.progress import QUIET, Progress
from ensembler.training.batches import BatchSource
from ensembler.training.host_workers import (
    POOLS,
    HostReader,
    WorkersUnavailableError,
    open_reader,
    source_of,
)

_DRAWN_AT_ONCE = 64  # batches: little enough to hold no batch up
_NO_SHARED_MEMORY = (
    "there is no memory that processes could share: the batches of the loader processes go "
    "through pipes, which is slower"
)
Batch = tuple[Tensor, Tensor]


@dataclass
class Loader:
    """Gives the batches of an epoch in order on `device`.

    What the host augments is made here or by `workers` processes. What is worth knowing, such as
    that these cannot be started, is noted once on `progress`.
    """

    workers: int
    device: torch.device
    progress: Progress = QUIET
    _said: set[str] = field(default_factory=set)

    def get_ready(self, augment: object) -> None:
        """Start the processes that will be wanted, without waiting for them."""
        if self.workers and not _needs_no_host(augment):
            # what it cannot do, `batches` notes
            with contextlib.suppress(WorkersUnavailableError):
                POOLS.give_back(POOLS.take(self.workers))

    @contextlib.contextmanager
    def batches(self, source: BatchSource) -> Iterator[Iterator[Batch]]:
        """Open the batches of `source`.

        A process that dies or hangs while they are used is a TrainingError.
        """
        with contextlib.ExitStack() as stack:
            yield self._with_targets(source, self._images(source, stack))

    def _images(self, source: BatchSource, stack: contextlib.ExitStack) -> Iterator[Tensor]:
        """The images of each batch on the device, augmented; `stack` closes what they come from."""
        if _needs_no_host(source.augment):
            feed = feed_of(source.pixels, self.device, source.first, self.progress)
            return self._augmented(
                source, stack.enter_context(feed.batches(source.batches))
            )
        if self.workers:
            try:
                return self._by_workers(source, stack)
            except WorkersUnavailableError as error:
                self._say(
                    f"loader processes cannot be started ({error}); the training process makes "
                    "the batches"
                )
        return self._on_device(source.images(i) for i in range(len(source)))

    def _augmented(self, source: BatchSource, images: Iterator[Tensor]) -> Iterator[Tensor]:
        """Batches that are on the device already, augmented there."""
        if not isinstance(source.augment, DeviceAugment):
            yield from images
            return
        drawn = _drawn_ahead(source, source.augment, self.device)
        for batch, (numbers, which) in zip(images, drawn, strict=True):
            yield source.augment.apply_placed(batch, numbers, which)

    def _by_workers(
        self, source: BatchSource, stack: contextlib.ExitStack
    ) -> Iterator[Tensor]:
        sizes = [len(rows) for rows in source.batches]
        card = card_of(self.device)
        shape = (max(sizes), *source.pixels.shape[1:])
        orders = list(zip(source.batches, source.drawn_before, strict=True))
        reader = HostReader(POOLS.take(self.workers), orders, shape, card)
        told = source_of(source.pixels, source.augment, source.key)
        stack.enter_context(open_reader(reader, told))
        if not reader.has_shared_memory:
            self._say(_NO_SHARED_MEMORY)
        return (images.permute(0, 3, 1, 2) for images in copied(card, reader, sizes))

    def _on_device(self, images: Iterable[Tensor]) -> Iterator[Tensor]:
        early = copies_early(self.device)
        for batch in images:
            yield batch.to(self.device, non_blocking=early)

    def _with_targets(
        self, source: BatchSource, images: Iterator[Tensor]
    ) -> Iterator[Batch]:
        # All go to the device at once: a copy for each batch would be waited for.
        targets = torch.from_numpy(source.targets[np.concatenate(source.batches)])
        targets = targets.to(self.device)
        at = 0
        for batch in images:
            yield batch, targets[at : at + len(batch)]
            at += len(batch)

    def _say(self, text: str) -> None:
        if text not in self._said:
            self.progress.note(text)
        self._said.add(text)


def _needs_no_host(augment: object) -> bool:
    return augment is None or isinstance(augment, DeviceAugment)


def _drawn_ahead(
    source: BatchSource, augment: DeviceAugment, device: torch.device
) -> Iterator[tuple[PlacedImages, slice]]:
    """What happens to the images of each batch, drawn for many batches at once."""
    for start in range(0, len(source), _DRAWN_AT_ONCE):
        some = range(start, min(start + _DRAWN_AT_ONCE, len(source)))
        drawn = augment.draw(Streams(source.keys(some))).on(device)
        at = 0
        for i in some:
            n = len(source.batches[i])
            yield drawn, slice(at, at + n)
            at += n
