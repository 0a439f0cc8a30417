"""Images prepared by a thread while what will look at them is loaded."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensembler.data.images import Images
from ensembler.data.pixels import Pixels, prepare_pixels
from ensembler.data.spec import InputSpec
from ensembler.progress import QUIET, Progress


@dataclass(frozen=True)
class PixelsAhead:
    """Pixels that are being prepared; whoever asks for an image waits for them all.

    What is wrong with images is raised then.
    """

    shape: tuple[int, ...]
    found: Future[Pixels]

    def __getitem__(self, rows: Any, /) -> NDArray[np.uint8]:
        """One image for a position, several for an array of positions."""
        return self.found.result()[rows]


def settled(pixels: Pixels) -> Pixels:
    """The pixels themselves, when those being prepared are ready; others as they are."""
    return pixels.found.result() if isinstance(pixels, PixelsAhead) else pixels


@contextmanager
def prepared_ahead(
    images: Images, spec: InputSpec, cache: Path, progress: Progress = QUIET
) -> Iterator[PixelsAhead]:
    """Prepare images as `prepare_pixels` does, beside what the block does.

    A block that ends before they are ready, by an error of its own, ends the preparing, too.
    """
    shape = (len(images), *spec.shape)
    has_ended = Event()
    heard = _UntilEnded(progress, has_ended)
    with ThreadPoolExecutor(1, thread_name_prefix="images") as thread:
        try:
            yield PixelsAhead(
                shape, thread.submit(prepare_pixels, images, spec, cache, heard)
            )
        finally:
            has_ended.set()


class _EndedError(Exception):
    """Nobody waits for the pixels any more."""


class _UntilEnded(Progress):
    """Shows what happens on another progress, and ends what reports to it when that is to end."""

    def __init__(self, progress: Progress, has_ended: Event) -> None:
        self._progress, self._has_ended = progress, has_ended

    def step(self, what: str, done: int, total: int) -> None:
        if self._has_ended.is_set():
            raise _EndedError
        self._progress.step(what, done, total)

    def note(self, text: str) -> None:
        self._progress.note(text)

    def warn(self, text: str) -> None:
        self._progress.warn(text)
