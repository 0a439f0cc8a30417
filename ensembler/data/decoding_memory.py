"""The memory that decoding threads share, so that large images are not decoded all at once."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from ensembler.machine.memory import machine_memory

# at the peak of decoding, as measured; of the other formats:
_BYTES_PER_PIXEL = {"WEBP": 18}
BYTES_OF_OTHERS = 12


class DecodingMemory:
    """Bytes that decoding threads share.

    A thread that asks for more than is left waits until others are done.
    """

    def __init__(self, size: int) -> None:
        self.size, self._free = size, size
        self._changed = threading.Condition()

    @contextmanager
    def taken(self, amount: int) -> Iterator[None]:
        """Hold `amount` bytes while the block runs.

        What is larger than everything there is runs alone.
        """
        amount = min(amount, self.size)
        with self._changed:
            self._changed.wait_for(lambda: self._free >= amount)
            self._free -= amount
        try:
            yield
        finally:
            with self._changed:
                self._free += amount
                self._changed.notify_all()


_memory = DecodingMemory(machine_memory() // 4)


def _share_after_fork() -> None:
    """Give a forked process its own share of the memory.

    A loader's worker is one of several, and its parent's threads are not there to release what they
    hold.
    """
    global _memory
    _memory = DecodingMemory(_memory.size // (os.cpu_count() or 1))


os.register_at_fork(after_in_child=_share_after_fork)


@contextmanager
def room_for(kind: str | None, n_pixels: int) -> Iterator[None]:
    """Hold what decoding an image of this format takes; wait until there is room."""
    with _memory.taken(n_pixels * _BYTES_PER_PIXEL.get(kind or "", BYTES_OF_OTHERS)):
        yield
