"""Batches on their way to the device: made by this process or by loader processes.

Loader processes hand pixels over in shared memory. Containers often have little of it (Docker's
default is 64 MB), and torch's own loader then waits for ever, because the error ends a thread of
the loader process. Here each batch is put into shared memory where an error can be seen, and goes
through a pipe when there is no room: slower, with the same pixels.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ensembler.data.counters import Streams
from ensembler.data.on_device.feed import feed_of
from ensembler.data.on_device.stages import DeviceAugment, PlacedImages
from ensembler.errors import EnsemblerError, TrainingError
from ensembler.networks.devices import copies_early
from ensembler.progress import QUIET, Progress
from ensembler.training.batches import BatchSource

SHARED_MEMORY = "/dev/shm"  # where Linux keeps what processes share
_DRAWN_AT_ONCE = 64  # batches: little enough to hold no batch up
PATIENCE = 600.0  # seconds that a batch may take a loader process

_NO_ROOM = (
    f"there is too little shared memory ({SHARED_MEMORY}) for the batches of the loader "
    "processes: they go through pipes, which is slower; a container has more when it is "
    "started with --shm-size=1g"
)
_ADVICE = (
    "--workers 0 makes the batches in the training process; a container has more shared "
    "memory when it is started with --shm-size=1g"
)
Batch = tuple[Tensor, Tensor]


@dataclass
class Loader:
    """Gives the batches of an epoch in order on `device`, made here or by `workers` processes.

    What is worth knowing, such as too little shared memory, is noted once on `progress`.
    """

    workers: int
    device: torch.device
    progress: Progress = QUIET
    _said: set[str] = field(default_factory=set)

    @contextlib.contextmanager
    def batches(self, source: BatchSource) -> Iterator[Iterator[Batch]]:
        """Open the batches of `source`.

        Loader processes augment where the host does. One that dies or hangs while they are used is
        a TrainingError.
        """
        if source.augment is None or isinstance(source.augment, DeviceAugment):
            feed = feed_of(source.pixels, self.device, source.first, self.progress)
            with feed.batches(source.batches) as images:
                yield self._augmented(source, images)
            return
        processes = self._start(source) if self.workers else None
        if processes is None:
            yield self._on_device(source[i] for i in range(len(source)))
            return
        try:
            yield self._on_device(self._received(processes))
        except RuntimeError as error:
            found = _explained(processes, error)
            if found is error:
                raise
            raise found from error

    def _start(self, source: BatchSource) -> Any:
        # A generator of its own: the loader would draw from the global one, and dropout would see
        # it.
        own = torch.Generator()
        loader = DataLoader(
            _InLoader(source),
            batch_size=None,
            num_workers=self.workers,
            collate_fn=_as_it_is,
            pin_memory=copies_early(self.device),
            generator=own,
            timeout=PATIENCE,
        )
        try:
            return iter(loader)
        except OSError as error:  # no room for a semaphore, or no further process allowed
            self._say(
                f"loader processes cannot be started ({error}); the training process makes the "
                "batches"
            )
            return None

    def _received(self, processes: Iterator[Any]) -> Iterator[Batch | EnsemblerError]:
        while True:
            began = time.monotonic()
            try:
                made = next(processes)
            except StopIteration:
                return
            except RuntimeError as error:
                if time.monotonic() - began < PATIENCE:
                    raise
                raise TrainingError(
                    f"no loader process made a batch within {PATIENCE:.0f} s; {_ADVICE}"
                ) from error
            yield made if isinstance(made, EnsemblerError) else self._as_tensors(*made)

    def _as_tensors(
        self, pixels: Tensor | NDArray[np.uint8], targets: NDArray[np.int64]
    ) -> Batch:
        if isinstance(pixels, np.ndarray):
            self._say(_NO_ROOM)
            pixels = torch.from_numpy(pixels)
        # [n, h, w, c] seen as [n, c, h, w] is channels-last already.
        return pixels.permute(0, 3, 1, 2), torch.from_numpy(targets)

    def _on_device(self, batches: Iterable[Batch | EnsemblerError]) -> Iterator[Batch]:
        early = copies_early(self.device)
        for made in batches:
            if isinstance(made, EnsemblerError):
                raise made
            pixels, targets = made
            on_device = pixels.to(self.device, non_blocking=early)
            yield on_device, targets.to(self.device, non_blocking=early)

    def _augmented(self, source: BatchSource, images: Iterator[Tensor]) -> Iterator[Batch]:
        """Batches that are on the device already, augmented there."""
        rows = np.concatenate(source.batches)
        targets = torch.from_numpy(source.targets[rows]).to(self.device)
        ends = np.cumsum([len(batch) for batch in source.batches]).tolist()
        drawn = _drawn_ahead(source, self.device)
        for i, batch in enumerate(images):
            part = slice(ends[i] - len(batch), ends[i])
            if isinstance(source.augment, DeviceAugment):
                batch = source.augment.apply_placed(batch, *next(drawn))
            yield batch, targets[part]

    def _say(self, text: str) -> None:
        if text not in self._said:
            self.progress.note(text)
        self._said.add(text)


def _drawn_ahead(
    source: BatchSource, device: torch.device
) -> Iterator[tuple[PlacedImages, slice]]:
    """What happens to the images of each batch, drawn for many batches at once."""
    augment = source.augment
    if not isinstance(augment, DeviceAugment):
        return
    for start in range(0, len(source), _DRAWN_AT_ONCE):
        some = range(start, min(start + _DRAWN_AT_ONCE, len(source)))
        drawn = augment.draw(Streams(source.keys(some))).on(device)
        at = 0
        for i in some:
            n = len(source.batches[i])
            yield drawn, slice(at, at + n)
            at += n


class _InLoader(Dataset[Any]):
    """A source in a loader process: pixels `[n, height, width, channels]`, shared if possible."""

    def __init__(self, source: BatchSource) -> None:
        self.source = source

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(
        self, index: int
    ) -> tuple[Tensor | NDArray[np.uint8], NDArray[np.int64]] | EnsemblerError:
        made = self.source[index]
        if isinstance(made, EnsemblerError):
            return made
        pixels, targets = made
        return shared_if_possible(pixels.permute(0, 2, 3, 1)), targets.numpy()


def shared_if_possible(pixels: Tensor) -> Tensor | NDArray[np.uint8]:
    """`pixels` in shared memory, or as an array without room for twice as much."""
    if free_shared_memory() >= 2 * pixels.nbytes:
        try:
            shared: Tensor = pixels.share_memory_()  # type: ignore[no-untyped-call]
            return shared
        except RuntimeError:  # another process was faster and took the room
            pass
    return pixels.numpy()


def free_shared_memory() -> float:
    """Free bytes of shared memory; infinity where the system does not say."""
    try:
        state = os.statvfs(SHARED_MEMORY)
    except OSError:
        return float("inf")
    return float(state.f_bavail * state.f_frsize)


def _explained(processes: Any, error: RuntimeError) -> Exception:
    """The error that a loader process died, when one did; otherwise the error itself."""
    codes = [
        process.exitcode
        for process in getattr(processes, "_workers", ())
        if process.exitcode
    ]
    return (
        TrainingError(f"a loader process died ({_how(codes[0])}); {_ADVICE}")
        if codes
        else error
    )


def _how(exit_code: int) -> str:
    if exit_code > 0:
        return f"exit code {exit_code}"
    name = signal.Signals(-exit_code).name
    return f"{name}, perhaps for want of memory" if name == "SIGKILL" else name


def _as_it_is(made: Any) -> Any:
    return made
