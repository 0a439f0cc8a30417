"""Shards of images predicted by several processes at once, each with its own networks."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

from ensembler.bundle.apply import Answer
from ensembler.bundle.shard import Shard
from ensembler.errors import EnsemblerError
from ensembler.machine.cores import available_cores

if TYPE_CHECKING:
    from ensembler.bundle.images import AskedImages
    from ensembler.bundle.networks import Networks

_LOOKS = 2.0  # seconds after which a process looks whether the one that started it is there


@dataclass(frozen=True)
class Worker:
    """What a process opens to predict shards."""

    bundle: Path
    trust_code: bool
    device: str
    engine: str | None
    asked: AskedImages
    folder: Path
    strict: bool
    threads: int


@dataclass(frozen=True)
class PredictedShard:
    """The answers for the rows from `start` on, and what is wrong with images, by position."""

    start: int
    stop: int
    answers: dict[str, Answer]
    broken: dict[int, str]


_here: dict[str, tuple[Worker, Networks]] = {}


def predict_shards(
    worker: Worker, shards: Sequence[tuple[int, int]], processes: int
) -> Iterator[PredictedShard]:
    """The shards as they are done, by so many processes.

    Raises EnsemblerError when a process was killed.
    """
    context = get_context("spawn")
    pool = ProcessPoolExecutor(processes, context, _begin, (worker, os.getpid()))
    try:
        futures = [pool.submit(_predict, start, stop) for start, stop in shards]
        for future in as_completed(futures):
            yield future.result()
    except BrokenProcessPool as error:
        raise EnsemblerError(
            "a process that predicted was killed, perhaps for want of memory; the same command "
            "resumes from here, with fewer --jobs it needs less"
        ) from error
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def threads_each(processes: int) -> int:
    """How many threads each of so many processes computes with."""
    return max(1, available_cores() // processes)


def _begin(worker: Worker, parent: int) -> None:
    import torch

    from ensembler.bundle.networks import Networks
    from ensembler.bundle.open import open_bundle

    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    torch.set_num_threads(worker.threads)
    ensemble = open_bundle(worker.bundle, trust_code=worker.trust_code)
    _here["worker"] = worker, Networks(ensemble, worker.device, worker.engine)


def _end_with(parent: int) -> None:
    """End this process when the one that started it is gone, however that ended."""
    while os.getppid() == parent:
        time.sleep(_LOOKS)
    os._exit(1)


def _predict(start: int, stop: int) -> PredictedShard:
    worker, networks = _here["worker"]
    broken: dict[int, str] = {}
    shard = Shard(networks, worker.asked, worker.folder, start, stop, strict=worker.strict)
    answers = shard.predict(broken.__setitem__)
    return PredictedShard(start, stop, answers, {**shard.broken_before, **broken})
