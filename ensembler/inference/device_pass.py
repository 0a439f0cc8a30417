"""The pass on a device: one copy of a batch there, its views made of it, nobody waiting for logits.

Batches come ahead of the computing and logits go back behind it; a thread writes them to their
files, so that the device is never waited for but at the end.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ensembler.data.on_device.feed import Feed, batches_of
from ensembler.errors import NotFiniteError
from ensembler.inference.device_views import device_view
from ensembler.inference.fetching import Fetched, Fetches
from ensembler.inference.predictor import Predictor, logits_on_device
from ensembler.inference.views import View

ON_THEIR_WAY = 64  # logits that are fetched before the first of them has to be written
Place = NDArray[np.float32]  # the part of a file that logits `[images, classes]` go to


@dataclass(frozen=True)
class Wanted:
    """What one predictor makes of a chunk: its views, and by view where their logits go."""

    name: str
    predictor: Predictor
    views: Mapping[str, Place]


@dataclass(frozen=True)
class Chunk:
    """Images, what is wanted of them, and what is called with the seconds when all is written."""

    rows: NDArray[np.int64]
    views: Sequence[View]
    wanted: Sequence[Wanted]
    finish: Callable[[float], None]


def predict_chunks(
    chunks: Sequence[Chunk], feed: Feed, fetches: Fetches, batch_size: int
) -> Iterator[Chunk]:
    """Predict the chunks; each is yielded when all of it is written, later than it was computed.

    Raises NotFiniteError with the name of a predictor whose logits are not finite.
    """
    batches = [part for chunk in chunks for part in batches_of(chunk.rows, batch_size)]
    with feed.batches(batches) as images, _writer() as writer:
        for chunk in chunks:
            for start in range(0, len(chunk.rows), batch_size):
                for asked in _predict(chunk, start, next(images), fetches):
                    writer.put(asked)
            writer.end(chunk)
            yield from writer.ended()
        writer.wait()
        yield from writer.ended()


def _predict(
    chunk: Chunk, start: int, images: Tensor, fetches: Fetches
) -> Iterator[Callable[[], None]]:
    """Predict one batch of a chunk; what remains is to wait for logits and to write them."""
    for view in chunk.views:
        seen = seen_by(view, images)
        for one in chunk.wanted:
            if view.name not in one.views:
                continue
            fetched = fetches.start(logits_on_device(one.predictor, seen))
            place = one.views[view.name][start : start + len(images)]
            yield partial(_write, one.name, fetched, place)


def seen_by(view: View, images: Tensor) -> Tensor:
    """A batch uint8 `[images, channels, height, width]` as a view shows it, channels last.

    Views of the user's own take the way over the host.
    """
    lying = images.permute(0, 2, 3, 1)
    make = device_view(view)
    if make is None:
        made = torch.from_numpy(view(lying.cpu().numpy())).to(images.device)
    else:
        made = make(lying).contiguous()
    return made.permute(0, 3, 1, 2)


def _write(name: str, fetched: Fetched, place: Place) -> None:
    arrived = fetched.wait()
    if not arrived.is_finite:
        raise NotFiniteError(name)
    place[:] = arrived.logits


@contextmanager
def _writer() -> Iterator[_Writer]:
    writer = _Writer(ThreadPoolExecutor(1, thread_name_prefix="logits"))
    try:
        yield writer
    finally:
        writer.thread.shutdown(cancel_futures=True)


@dataclass
class _Writer:
    """A thread that writes in the order in which it is asked; what it meets is raised here."""

    thread: ThreadPoolExecutor
    began: float = field(default_factory=time.perf_counter)
    waiting: deque[Future[Chunk | None]] = field(default_factory=deque)
    written: list[Chunk] = field(default_factory=list)

    def put(self, write: Callable[[], None]) -> None:
        """Write something, after at most so many others."""
        while len(self.waiting) >= ON_THEIR_WAY:
            self._take()
        self.waiting.append(self.thread.submit(write))

    def end(self, chunk: Chunk) -> None:
        """All of a chunk was asked for: finish it when it is written."""
        self.waiting.append(self.thread.submit(self._finish, chunk))

    def ended(self) -> Iterator[Chunk]:
        """The chunks that were finished since this was asked last."""
        while self.waiting and self.waiting[0].done():
            self._take()
        found, self.written = self.written, []
        yield from found

    def wait(self) -> None:
        """Wait until all is written."""
        while self.waiting:
            self._take()

    def _take(self) -> None:
        chunk = self.waiting.popleft().result()
        if chunk is not None:
            self.written.append(chunk)

    def _finish(self, chunk: Chunk) -> Chunk:
        now = time.perf_counter()
        seconds, self.began = now - self.began, now
        chunk.finish(seconds)
        return chunk
