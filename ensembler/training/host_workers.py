"""Processes that augment batches on the host, beside the one that computes.

They are started once and live through trainings; an epoch costs no start. Batches come in memory
that is shared with them and that copies to a CUDA device need not wait for.
"""

from __future__ import annotations

import atexit
import contextlib
import mmap
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ensembler.data.augmenting import Made, Order, Source
from ensembler.data.mapped_file import MappedFile
from ensembler.data.on_device.card import Card
from ensembler.data.on_device.streaming import AHEAD
from ensembler.errors import TrainingError

PATIENCE = 600.0  # seconds that a batch may take a process
_ADVICE = "--workers 0 makes the batches in the training process"
_SERVE = "from ensembler.data.augmenting import serve; serve({connection}, {memory})"
_BY_ONE = 2  # batches that are ordered of each process


class WorkersUnavailableError(Exception):
    """There are no processes that could make the batches; why."""


@dataclass(frozen=True)
class Worker:
    """A process that makes batches, and the way to it."""

    process: subprocess.Popen[bytes]
    connection: Connection

    def send(self, message: Source | Order | bytes) -> None:
        """Send a message, or one that was pickled before."""
        try:
            if isinstance(message, bytes):
                self.connection.send_bytes(message)
            else:
                self.connection.send(message)
        except OSError as error:
            raise self.died() from error

    def receive(self) -> Made:
        """The next batch that was ordered of it."""
        try:
            if not self.connection.poll(PATIENCE):
                raise TrainingError(
                    f"no loader process made a batch within {PATIENCE:.0f} s; {_ADVICE}"
                )
            made: Made = self.connection.recv()
        except (EOFError, OSError) as error:
            raise self.died() from error
        return made

    def died(self) -> TrainingError:
        """The error that it died."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(5)
        return TrainingError(
            f"a loader process died ({_how(self.process.returncode)}); {_ADVICE}"
        )

    def end(self) -> None:
        """End it."""
        self.connection.close()
        self.process.kill()
        self.process.wait()


@dataclass
class WorkerPool:
    """So many processes, with the memory that they share with this one."""

    workers: list[Worker]
    memory: SharedMemory

    @classmethod
    def start(cls, n: int) -> WorkerPool:
        """Start processes without waiting for them. Raises OSError when that cannot be done."""
        memory = SharedMemory()
        pool = cls([], memory)
        try:
            for _ in range(n):
                pool.workers.append(_started(memory.descriptor))
        except OSError:
            pool.end()
            raise
        return pool

    @property
    def is_alive(self) -> bool:
        """Whether all processes are there."""
        return all(worker.process.poll() is None for worker in self.workers)

    def end(self) -> None:
        """End all processes."""
        for worker in self.workers:
            worker.end()
        self.memory.close()


def _started(memory: int) -> Worker:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        kept = [theirs.fileno(), *([memory] if memory >= 0 else [])]
        # Not by multiprocessing, which would run a user's script again that has no __main__ guard.
        process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                _SERVE.format(connection=theirs.fileno(), memory=memory),
            ],
            pass_fds=kept,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        return Worker(process, Connection(ours.detach()))


class SharedMemory:
    """Memory that other processes map by its file descriptor, -1 where the system has none.

    It is no file of /dev/shm, of which containers often have little.
    """

    def __init__(self) -> None:
        try:
            self.descriptor = os.memfd_create("ensembler-batches")
        except (AttributeError, OSError):
            self.descriptor = -1
        self._mapped: mmap.mmap | None = None
        self._pinned: tuple[Card, Tensor] | None = None

    def of_size(self, n_bytes: int, card: Card) -> Tensor | None:
        """At least so many bytes, uint8; None when there is no such memory."""
        if self.descriptor < 0:
            return None
        if self._mapped is None or len(self._mapped) < n_bytes:
            try:
                os.posix_fallocate(self.descriptor, 0, n_bytes)
            except OSError:
                return None
            self._mapped = mmap.mmap(self.descriptor, n_bytes)
        if (
            self._pinned is None
            or self._pinned[0] is not card
            or len(self._pinned[1]) < n_bytes
        ):
            self._unpin()
            seen = torch.from_numpy(np.frombuffer(self._mapped, np.uint8))
            card.pin(seen)
            self._pinned = card, seen
        return self._pinned[1]

    def close(self) -> None:
        """Give it back."""
        self._unpin()
        self._mapped = None
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def _unpin(self) -> None:
        if self._pinned is not None:
            card, seen = self._pinned
            card.unpin(seen)
            self._pinned = None


class _Pools:
    """Pools that nobody reads from, by their number of processes.

    They live until this process ends, for the trainings to come. Folds that are trained at the same
    time, in threads, each take one.
    """

    def __init__(self) -> None:
        self._free: dict[int, list[WorkerPool]] = {}
        self._lock = threading.Lock()

    def take(self, n: int) -> WorkerPool:
        """A pool of `n` processes, started if there is none. Raises WorkersUnavailableError."""
        with self._lock:
            free = self._free.setdefault(n, [])
            while free:
                pool = free.pop()
                if pool.is_alive:
                    return pool
                pool.end()
        try:
            return WorkerPool.start(n)
        except OSError as error:
            raise WorkersUnavailableError(str(error)) from error

    def give_back(self, pool: WorkerPool) -> None:
        """Keep a pool for whoever takes it next."""
        with self._lock:
            self._free.setdefault(len(pool.workers), []).append(pool)

    def free(self, n: int) -> list[WorkerPool]:
        """The pools of `n` processes that nobody has taken."""
        return list(self._free.get(n, ()))

    def end(self) -> None:
        """End all processes that nobody reads from."""
        with self._lock:
            for pools in self._free.values():
                while pools:
                    pools.pop().end()


POOLS = _Pools()
atexit.register(POOLS.end)


@dataclass
class HostReader:
    """Reads the batches of one epoch, in order, from the processes of a pool."""

    pool: WorkerPool
    orders: Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]]  # rows, drawn before
    shape: tuple[int, ...]  # of a batch of the largest size
    card: Card
    _ordered: int = 0
    _taken: int = 0
    _given_back: int = 0
    _shared: Tensor | None = field(default=None, init=False)
    _is_out_of_step: bool = False

    @property
    def has_shared_memory(self) -> bool:
        """Whether batches come in shared memory, and not through pipes."""
        return self._shared is not None

    def begin(self, source: Source) -> None:
        """Tell all processes what batches are made of, and order the first ones."""
        try:
            message = pickle.dumps(source)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise WorkersUnavailableError(str(error)) from error
        self._shared = self.pool.memory.of_size(self._slots * self._size, self.card)
        for worker in self.pool.workers:
            worker.send(message)
        self._order()

    @property
    def _slots(self) -> int:
        return _BY_ONE * len(self.pool.workers) + AHEAD + 1

    @property
    def _size(self) -> int:
        return int(np.prod(self.shape))

    def _order(self) -> None:
        """Order what there is room for."""
        until = min(self._given_back + self._slots, len(self.orders))
        while self._ordered < until:
            number = self._ordered
            rows, again = self.orders[number]
            place = (number % self._slots) * self._size if self.has_shared_memory else None
            self._worker(number).send(Order(number, rows, again, place))
            self._ordered += 1

    def _worker(self, number: int) -> Worker:
        return self.pool.workers[number % len(self.pool.workers)]

    def take(self) -> Tensor:
        """The next batch, `[rows, height, width, channels]`."""
        number = self._taken
        made = self._receive()
        if made.error is not None:
            raise made.error
        if made.images is not None:
            return torch.from_numpy(made.images)
        assert self._shared is not None
        place = (number % self._slots) * self._size
        return self._shared[place : place + self._size].view(self.shape)

    def give_back(self, buffer: Tensor) -> None:  # noqa: ARG002 the order of batches says which
        """Let a batch's memory be written to again."""
        self._given_back += 1
        self._order()

    def _receive(self) -> Made:
        try:
            made = self._worker(self._taken).receive()
        except TrainingError:
            self._is_out_of_step = True
            raise
        self._taken += 1
        return made

    def close(self) -> None:
        """Wait for what was ordered and nobody took: it would write over the next epoch's batches.

        The processes are kept for the next epoch, unless one of them died or hangs.
        """
        with contextlib.suppress(TrainingError):
            while self._taken < self._ordered and not self._is_out_of_step:
                self._receive()
        if self._is_out_of_step:
            self.pool.end()
        else:
            POOLS.give_back(self.pool)


@contextlib.contextmanager
def open_reader(reader: HostReader, source: Source) -> Iterator[HostReader]:
    """Begin to read, and end whatever happens."""
    try:
        reader.begin(source)
        yield reader
    finally:
        reader.close()


def source_of(pixels: Any, augment: Any, key: tuple[int, ...]) -> Source:
    """What processes are told of a source of batches."""
    return Source(MappedFile.of(pixels) or pixels, augment, key)


def _how(exit_code: int | None) -> str:
    if exit_code is None:
        return "it hangs"
    if exit_code >= 0:
        return f"exit code {exit_code}"
    name = signal.Signals(-exit_code).name
    return f"{name}, perhaps for want of memory" if name == "SIGKILL" else name
