"""Trials tried at the same time, in processes of this machine that share the study by claims.

Also what a trial with a `timeout` runs in: a process that hangs can be ended, and another one takes
its place.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path

from ensembler.errors import EnsemblerError, RequestError, TrainingError
from ensembler.execution.shares import share_of_loaders
from ensembler.experiments.tuner import TrialBegan, TrialEnded, Tuner, open_search
from ensembler.machine.cores import available_cores
from ensembler.machine.execution import Execution
from ensembler.progress import Message, Progress, ProgressForwarder
from ensembler.recipe.load import Recipe
from ensembler.stop import Stop, interrupt_on_sigterm

_LOOK_EVERY = 1.0  # seconds between two looks at the clock and the stop signal
_MOST_HUNG = 5  # trials in a row that took too long, until the search ends
_MOST_DEATHS = 9  # of workers, in a row, without a trial that ends


@dataclass(frozen=True)
class SearchDone:
    """A worker found nothing more to do; `ended` says why, where trials are missing."""

    ended: str | None


@dataclass(frozen=True)
class SearchError:
    """A worker met an error that concerns the whole search."""

    error: EnsemblerError | OSError


FromWorker = Message | TrialBegan | TrialEnded | SearchDone | SearchError


@dataclass(frozen=True)
class SearchConfig:
    """What every worker is given."""

    recipe: Recipe
    artifacts: Path
    trials: int
    execution: Execution
    threads: int
    stop: Stop


@dataclass
class _Worker:
    process: SpawnProcess
    receiver: Connection
    trial: int | None = None
    since: float = 0.0

    @property
    def seconds(self) -> float:
        """How long it has been at its trial."""
        return 0.0 if self.trial is None else time.monotonic() - self.since


@dataclass
class Workers:
    """The processes of a search, watched: `give_up` tells the study of a trial that hangs."""

    configs: Sequence[SearchConfig]
    progress: Progress
    stop: Stop
    timeout: float | None
    give_up: Callable[[int, float], None]
    _workers: list[_Worker] = field(default_factory=list)
    _deaths: int = 0
    _hung: int = 0
    ended: str | None = None

    def search(self) -> None:
        """Let the workers search until each has found nothing more to do, or `stop` says so."""
        with self._started():
            while self._workers and not self.stop:
                by_receiver = {worker.receiver: worker for worker in self._workers}
                for receiver in wait([*by_receiver], timeout=_LOOK_EVERY):
                    assert isinstance(receiver, Connection)
                    self._hear(by_receiver[receiver])
                self._end_what_hangs()

    @contextmanager
    def _started(self) -> Iterator[None]:
        try:
            for config in self.configs:
                self._start(config)
            yield
        finally:
            for worker in self._workers:
                worker.process.terminate()
            for worker in self._workers:
                worker.process.join()

    def _start(self, config: SearchConfig) -> None:
        context = get_context("spawn")
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_worker_main, args=(config, sender))
        process.start()
        # held by the worker alone: when it ends, however it ends, the receiver sees the end
        sender.close()
        self._workers.append(_Worker(process, receiver))

    def _hear(self, worker: _Worker) -> None:
        try:
            received: FromWorker = worker.receiver.recv()
        except (EOFError, OSError):
            self._replace(worker)
            return
        match received:
            case TrialBegan(number):
                worker.trial, worker.since = number, time.monotonic()
            case TrialEnded():
                worker.trial, self._deaths, self._hung = None, 0, 0
            case SearchDone(ended):
                self.ended = self.ended or ended
                self._workers.remove(worker)
                worker.process.join()
            case SearchError(error):
                raise error
            case message:
                message.show(self.progress)

    def _end_what_hangs(self) -> None:
        if self.timeout is None:
            return
        for worker in [*self._workers]:
            if worker.trial is None or worker.seconds <= self.timeout:
                continue
            number, seconds = worker.trial, worker.seconds
            worker.process.kill()
            worker.process.join()
            self.give_up(number, seconds)
            self._workers.remove(worker)
            self._hung += 1
            if self._hung >= _MOST_HUNG:
                raise TrainingError(
                    f"{self._hung} trials one after another took more than tune.timeout, "
                    f"{self.timeout:g} s; a longer one may help"
                )
            self._start(self.configs[0])

    def _replace(self, worker: _Worker) -> None:
        """Start another process in the place of one that died."""
        worker.process.join()
        self._workers.remove(worker)
        self._deaths += 1
        if self._deaths >= _MOST_DEATHS:
            raise TrainingError(
                f"{self._deaths} processes died one after another, the last with exit code "
                f"{worker.process.exitcode}; the memory of the machine may be too short for --jobs"
            )
        self.progress.warn("a process of the search died; another one takes its place")
        self._start(self.configs[0])


def search_in_processes(tuner: Tuner, execution: Execution) -> None:
    """Search in processes, each of which does as `Tuner.search_on` and `complete` do."""
    n, workspace = execution.processes, tuner.workspace
    workers = Workers(
        configs_of(
            workspace.recipe, workspace.artifacts, tuner.wanted, execution, tuner.stop
        ),
        workspace.progress,
        tuner.stop,
        tuner.search.tune.timeout_seconds,
        tuner.give_up,
    )
    workspace.progress.note(f"{n} processes search" if n > 1 else "a process searches")
    workers.search()
    tuner.ended = workers.ended


def configs_of(
    recipe: Recipe, artifacts: Path, trials: int, execution: Execution, stop: Stop
) -> list[SearchConfig]:
    """What each of `execution.processes` workers is given: its share of cores and devices."""
    from ensembler.networks.devices import cards

    n = execution.processes
    devices = execution.devices or cards(execution.device) or (execution.device,)
    given = execution.workers
    loaders = share_of_loaders(n, execution.device) if given is None else given
    threads = max(1, available_cores() // n)
    return [
        SearchConfig(
            recipe,
            artifacts,
            trials,
            replace(
                execution,
                device=devices[i % len(devices)],
                devices=(),
                workers=loaders,
                processes=1,
            ),
            threads,
            stop.for_other_process(),
        )
        for i in range(n)
    ]


def _worker_main(config: SearchConfig, sender: Connection) -> None:
    """Search with a share of the cores until nothing is left; what happens goes to `sender`."""
    # Ctrl-C reaches all of them at once: the process that shows progress ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["OMP_NUM_THREADS"] = str(config.threads)
    import torch

    torch.set_num_threads(config.threads)
    try:
        interrupt_on_sigterm()  # so that the last epoch is kept
        sender.send(SearchDone(_search(config, sender)))
    except KeyboardInterrupt:
        return
    except (EnsemblerError, OSError) as error:
        sender.send(SearchError(_plain(error)))
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _search(config: SearchConfig, sender: Connection) -> str | None:
    def send(message: FromWorker) -> None:
        try:
            sender.send(message)
        except BrokenPipeError:  # the process that shows progress is gone
            raise KeyboardInterrupt from None

    # What opening has to say, the process that shows progress has said.
    search, opened = open_search(config.recipe, config.artifacts, Progress())
    workspace = replace(opened, progress=ProgressForwarder(send))
    tuner = Tuner(
        search, workspace, config.execution, config.stop, config.trials, tell=send
    )
    tuner.search_on()
    tuner.complete()
    return tuner.ended


def _plain(error: EnsemblerError | OSError) -> EnsemblerError | OSError:
    """The same error without arguments of its own, which do not travel."""
    if isinstance(error, RequestError):
        return RequestError(str(error))
    if isinstance(error, EnsemblerError):
        return EnsemblerError(str(error))
    return OSError(error.errno, error.strerror, error.filename)
