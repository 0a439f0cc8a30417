"""The state of a fold in training, on disk from time to time, from which it resumes."""

from __future__ import annotations

import hashlib
import io
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any, cast

import torch
from torch import Tensor

from ensembler.files import write_aside

# seconds: at most so much training, and the epoch at hand, is lost when a process is killed
KEEP_EVERY = 30.0
_SHARE = 0.05  # of the time that may go into writing


class StateKeeper:
    """Keeps the state of a training on disk while the block runs, written by a thread.

    After every epoch it is given the state; the first one and then one every `every` seconds goes
    to disk. When the block ends by an error or Ctrl-C, the last one is written before the error
    goes on.
    """

    def __init__(self, path: Path, every: float = KEEP_EVERY) -> None:
        self.path = path
        self.every = every
        self._thread = ThreadPoolExecutor(1)
        self._writing: Future[float] | None = None
        self._began = -float("inf")
        self._unwritten: dict[str, Any] | None = None

    def __enter__(self) -> StateKeeper:
        return self

    def keep(self, state: dict[str, Any]) -> None:
        """Take the state after an epoch: copied, for the training goes on with its tensors."""
        self._unwritten = copied(state)
        if self._is_due():
            self._began = time.monotonic()
            self._writing = self._thread.submit(timed_write, self.path, self._unwritten)
            self._unwritten = None

    def _is_due(self) -> bool:
        if self._writing is None:
            return True
        if not self._writing.done():
            return False
        took = self._writing.result()  # raises what the writing raised
        return time.monotonic() - self._began >= max(self.every, took / _SHARE)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._thread.shutdown(wait=True)
        if error is None:
            if self._writing is not None:
                self._writing.result()
            return
        if self._unwritten is not None:
            # An earlier state is on disk; what ended the training is what the caller has to hear.
            with suppress(OSError):
                write_state(self.path, self._unwritten)


def copied(state: Any) -> Any:
    """A state with copies of its tensors, in the memory of the processor."""
    if isinstance(state, Tensor):
        return state.detach().to("cpu", copy=True)
    if isinstance(state, dict):
        return {key: copied(value) for key, value in state.items()}
    if isinstance(state, list):
        return [copied(value) for value in state]
    return state


def timed_write(path: Path, state: dict[str, Any]) -> float:
    """Write the state of a training; the seconds that took."""
    began = time.monotonic()
    write_state(path, state)
    return time.monotonic() - began


class _Hashing:
    """Writes to a file and knows the digest of what went into it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.digest = hashlib.sha256()
        self.fault: OSError | None = None  # the first of what went wrong

    def write(self, content: bytes) -> int:
        self.digest.update(content)
        try:
            return self._file.write(content)
        except OSError as error:
            self.fault = self.fault or error
            raise

    def flush(self) -> None:
        self._file.flush()


def write_state(path: Path, state: dict[str, Any]) -> None:
    """Write tensors and plain values, whole or not at all, under a checksum."""
    # Not flushed to the disk: a power cut costs this fold some epochs, a flush would cost every
    # time.
    with write_aside(path, durable=False) as file:
        file.write(bytes(32))
        hashing = _Hashing(file)
        try:
            torch.save(state, cast(IO[bytes], hashing))
        except RuntimeError as error:
            # torch says where its archive ends too early; that the disk is full is what the user
            # has to hear.
            if hashing.fault is not None:
                raise hashing.fault from error
            raise
        file.seek(0)
        file.write(hashing.digest.digest())


def read_state(path: Path, job: str) -> dict[str, Any] | None:
    """Read the state of the same job (a fingerprint).

    None when there is none, and when it is damaged or foreign.
    """
    if not path.is_file():
        return None
    content = memoryview(path.read_bytes())
    if hashlib.sha256(content[32:]).digest() != content[:32]:
        return None
    state: dict[str, Any] = torch.load(
        io.BytesIO(content[32:]), map_location="cpu", weights_only=True
    )
    return state if state.get("job") == job else None
