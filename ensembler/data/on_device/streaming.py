"""Pixels on their way to a device: read by a thread, copied two batches ahead of the computing."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ensembler.data.on_device.card import Card
from ensembler.data.on_device.store import read_into
from ensembler.data.pixels import Pixels

AHEAD = 2  # batches copied before they are asked for


@contextmanager
def streamed(
    card: Card, pixels: Pixels, batches: Sequence[NDArray[np.int64]]
) -> Iterator[Iterator[Tensor]]:
    """The images of each batch on the card, uint8 `[rows, height, width, channels]`, in order."""
    reader = _Reader(card, pixels, batches)
    try:
        yield copied(card, reader, [len(rows) for rows in batches])
    finally:
        reader.close()


class Reader(Protocol):
    """Reads batches, in order, into buffers from which they can be copied."""

    def take(self) -> Tensor:
        """The buffer with the next batch, perhaps longer than it."""
        ...

    def give_back(self, buffer: Tensor) -> None:
        """Let the buffer that was taken first be read into again."""
        ...


def copied(card: Card, reader: Reader, sizes: Sequence[int]) -> Iterator[Tensor]:
    """Batches of these sizes on the card, copied two ahead of what is asked for."""
    on_their_way: deque[_Copy] = deque()
    for size in sizes:
        buffer = reader.take()
        out = card.empty((size, *buffer.shape[1:]))
        on_their_way.append(_Copy(buffer, out, card.copy(buffer[:size], out)))
        if len(on_their_way) > AHEAD:
            yield _arrived(card, reader, on_their_way.popleft())
    while on_their_way:
        yield _arrived(card, reader, on_their_way.popleft())


@dataclass(frozen=True)
class _Copy:
    """A copy that was begun."""

    source: Tensor
    out: Tensor
    mark: Any


def _arrived(card: Card, reader: Reader, copy: _Copy) -> Tensor:
    card.use(copy.mark)
    # Begun two batches ago, it is over: this waits for nothing.
    card.finish(copy.mark)
    reader.give_back(copy.source)
    return copy.out


class _Reader:
    """A thread that reads batches into a ring of pinned buffers."""

    def __init__(
        self, card: Card, pixels: Pixels, batches: Sequence[NDArray[np.int64]]
    ) -> None:
        self._pixels, self._batches = pixels, batches
        self._free: SimpleQueue[Tensor] = SimpleQueue()
        self._read: SimpleQueue[Tensor | Exception] = SimpleQueue()
        self._is_closed = False
        longest = max((len(rows) for rows in batches), default=0)
        # one is read into while the others are copied
        self._buffers = [
            card.pinned((longest, *pixels.shape[1:]))
            for _ in range(min(AHEAD + 2, len(batches)))
        ]
        for buffer in self._buffers:
            self._free.put(buffer)
        self._thread = threading.Thread(target=self._run, daemon=True, name="pixels")
        self._thread.start()

    def _run(self) -> None:
        for rows in self._batches:
            buffer = self._free.get()
            if self._is_closed:
                return
            try:
                read_into(buffer[: len(rows)].numpy(), self._pixels, rows)
            except Exception as error:
                self._read.put(error)
                return
            self._read.put(buffer)

    def take(self) -> Tensor:
        """The buffer of the next batch; what could not be read is raised here."""
        found = self._read.get()
        if isinstance(found, Exception):
            raise found
        return found

    def give_back(self, buffer: Tensor) -> None:
        """Let a buffer be read into again."""
        self._free.put(buffer)

    def close(self) -> None:
        """End the thread; what it has read and nobody took is dropped."""
        self._is_closed = True
        for buffer in self._buffers[:1]:
            self._free.put(buffer)  # wakes it when it waits for one
        self._thread.join()
