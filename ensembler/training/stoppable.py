"""Batches until time is over: an epoch that takes too long ends after a batch."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from ensembler.stop import Stop, Stopped
from ensembler.training.batches import BatchSource
from ensembler.training.loading import Batch, Loader


@dataclass
class StoppableLoader(Loader):
    """A loader whose batches end, by Stopped, when the time of `stop` is over."""

    stop: Stop = field(default_factory=Stop)

    @contextlib.contextmanager
    def batches(self, source: BatchSource) -> Iterator[Iterator[Batch]]:
        """Open the batches of `source`."""
        with super().batches(source) as batches:
            yield self._in_time(batches)

    def _in_time(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        for batch in batches:
            if self.stop.is_over:
                raise Stopped("stopped: deadline")
            yield batch
