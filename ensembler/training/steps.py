"""The steps of an epoch: which batches make an update together, and who takes them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from ensembler.training.loading import Batch


@dataclass(frozen=True)
class Place:
    """The position of a batch among those whose gradients make one update.

    `sizes` are the images of each of them.
    """

    index: int
    sizes: tuple[int, ...]

    @property
    def of(self) -> int:
        """How many batches make the update."""
        return len(self.sizes)

    @property
    def is_last(self) -> bool:
        """Whether the weights move after this batch."""
        return self.index == self.of - 1

    def is_whole(self, batch_size: int) -> bool:
        """Whether each batch of the update has `batch_size` images."""
        return all(size == batch_size for size in self.sizes)


def places(sizes: Sequence[int], accumulate: int) -> Iterator[Place]:
    """The place of each batch of an epoch, in order."""
    for first in range(0, len(sizes), accumulate):
        together = tuple(sizes[first : first + accumulate])
        for index in range(len(together)):
            yield Place(index, together)


class Steps(Protocol):
    """Takes the batches of whole updates: eagerly, or as a graph."""

    def take(self, batch: Batch, place: Place, updates: int) -> None:
        """Learn from a batch; after the last of its update, move.

        `updates` counts the updates with this one.
        """
