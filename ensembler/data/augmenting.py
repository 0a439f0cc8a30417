"""A process that augments batches for another one: `python -c` runs `serve`.

It is started anew (a process forked beside CUDA or threads may hang), loads no torch unless a
transform does, and lives until the one that it works for closes the connection or dies. Batches go
into memory that both have mapped, or through the connection where there is none.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import signal
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensembler.data.augment import sample_seed
from ensembler.data.augment_steps import Augment
from ensembler.data.mapped_file import MappedFile
from ensembler.data.pixels import Pixels
from ensembler.errors import EnsemblerError, TrainingError


@dataclass(frozen=True)
class Source:
    """What batches are made of from now on; `key` is run seed, fold and epoch."""

    pixels: MappedFile | Pixels
    augment: Augment
    key: tuple[int, ...]


@dataclass(frozen=True)
class Order:
    """A batch to make: rows, and how often each was drawn before.

    `place` is where in the shared memory it belongs, None = through the connection.
    """

    number: int
    rows: NDArray[np.int64]
    again: NDArray[np.int64]
    place: int | None


@dataclass(frozen=True)
class Made:
    """A batch is where it belongs, or it is here, or it cannot be made."""

    number: int
    images: NDArray[np.uint8] | None = None
    error: EnsemblerError | None = None


def seeds_of(
    key: Sequence[int], rows: NDArray[np.int64], again: NDArray[np.int64]
) -> list[int]:
    """The seed of every image, by run seed, fold and epoch, row, and how often it was drawn."""
    return [
        sample_seed(*key, int(row), *([int(n)] if n else []))
        for row, n in zip(rows, again, strict=True)
    ]


def augmented(
    pixels: Pixels, augment: Augment, rows: NDArray[np.int64], seeds: Sequence[int]
) -> NDArray[np.uint8]:
    """Images `[rows, height, width, channels]`, each augmented with its own seed."""
    images = zip(pixels[rows], seeds, strict=True)
    return np.stack([augment(image, seed) for image, seed in images])


def serve(connection: int, memory: int) -> None:
    """Make the batches that are asked for through the file descriptor `connection`.

    `memory` is that of the shared memory, -1 = there is none.
    """
    # Ctrl-C is heard by the process that this one works for.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _use_one_thread()
    with Connection(connection) as asking, contextlib.suppress(EOFError, BrokenPipeError):
        _answer(asking, _Shared(memory))


def _use_one_thread() -> None:
    import cv2

    cv2.setNumThreads(0)


def _answer(asking: Connection, shared: _Shared) -> None:
    source: Source | None = None
    pixels: Any = None
    while True:
        asked: Source | Order = asking.recv()
        if isinstance(asked, Source):
            source = asked
            given = asked.pixels
            pixels = given.open() if isinstance(given, MappedFile) else given
            continue
        assert source is not None
        asking.send(_made(asked, source, pixels, shared))


def _made(order: Order, source: Source, pixels: Pixels, shared: _Shared) -> Made:
    seeds = seeds_of(source.key, order.rows, order.again)
    try:
        images = augmented(pixels, source.augment, order.rows, seeds)
    except EnsemblerError as error:
        return Made(order.number, error=error)
    except Exception as error:
        failed = TrainingError(f"augmentation failed: {type(error).__name__}: {error}")
        failed.add_note(traceback.format_exc())
        return Made(order.number, error=failed)
    if order.place is None:
        return Made(order.number, images)
    shared.write(images, order.place)
    return Made(order.number)


class _Shared:
    """Memory of another process, which may grow."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._mapped: mmap.mmap | None = None

    def write(self, images: NDArray[np.uint8], place: int) -> None:
        """Write images where they belong."""
        if self._mapped is None or place + images.nbytes > len(self._mapped):
            self._mapped = mmap.mmap(self._descriptor, os.fstat(self._descriptor).st_size)
        to = np.frombuffer(self._mapped, np.uint8, images.nbytes, place)
        to[:] = images.reshape(-1)
