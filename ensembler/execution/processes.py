"""Folds trained at the same time, by processes of this machine that claim them one at a time.

For networks too small to keep several cores busy in step, and for several cards. Each process
computes with its share of the cores.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import TYPE_CHECKING

from ensembler.errors import EnsemblerError, RequestError
from ensembler.execution.here import Here
from ensembler.execution.shares import shares_of
from ensembler.execution.together import Together
from ensembler.machine.cores import available_cores
from ensembler.machine.execution import Execution
from ensembler.members.executor import Failure, FinishedTask, FoldResult, LeftOut
from ensembler.progress import FoldTask, Message, Progress, ProgressForwarder
from ensembler.stop import Stop, interrupt_on_sigterm

if TYPE_CHECKING:
    from ensembler.members.training import Training
    from ensembler.recipe.load import Recipe
    from ensembler.workspace.workspace import Workspace

_LOOK_EVERY = 1.0  # seconds between two looks at the stop signal


@dataclass(frozen=True)
class WorkerConfig:
    """What every worker is given: the run, and which of its folds are wanted."""

    recipe: Recipe
    artifacts: Path
    members: tuple[str, ...]
    tasks: tuple[FoldTask, ...]
    execution: Execution
    threads: int
    stop: Stop


@dataclass(frozen=True)
class WorkerDone:
    """A worker found nothing more to do."""


@dataclass(frozen=True)
class WorkerError:
    """A worker met an error that concerns the whole job."""

    error: EnsemblerError | OSError


FromWorker = Message | FoldResult | WorkerDone | WorkerError


@dataclass(frozen=True)
class Processes:
    """Trains `execution.processes` folds at the same time, each in a process of its own."""

    execution: Execution

    @property
    def at_once(self) -> int:
        """One fold for each process."""
        return self.execution.processes

    def check(self) -> None:
        """Raise RequestError for a device that is not there."""
        Here(self.execution).check()

    def run(
        self,
        workspace: Workspace,
        trainings: Sequence[Training],
        tasks: Sequence[FoldTask],
        stop: Stop,
    ) -> Generator[FoldResult, None, None]:
        """Do the tasks in processes, and here what processes that died have left.

        One process, or a single task, is left to this one. What a worker raises for the user is
        raised here.
        """
        shares = shares_of(self.execution, min(self.at_once, len(tasks)))
        if len(shares) > 1:
            members = [
                plan.member.name for training in trainings for plan in training.plans
            ]
            threads = max(1, available_cores() // len(shares))
            configs = [
                WorkerConfig(
                    workspace.recipe,
                    workspace.artifacts,
                    tuple(members),
                    tuple(tasks),
                    share,
                    threads,
                    stop.for_other_process(),
                )
                for share in shares
            ]
            with _workers(configs) as receivers:
                yield from _results(receivers, workspace.progress, stop)
        yield from Here(self.execution).run(workspace, trainings, tasks, stop)


@contextmanager
def _workers(configs: Sequence[WorkerConfig]) -> Iterator[list[Connection]]:
    """Start a worker for each config and yield where each is heard; they end with the block."""
    context = get_context("spawn")
    processes: list[SpawnProcess] = []
    receivers: list[Connection] = []
    try:
        for config in configs:
            receiver, sender = context.Pipe(duplex=False)
            receivers.append(receiver)
            processes.append(context.Process(target=_worker_main, args=(config, sender)))
            processes[-1].start()
            # held by the worker alone: when it ends, however it ends, the receiver sees the end
            sender.close()
        yield receivers
    finally:
        for process in processes:
            process.terminate()
            process.join()


def _results(
    receivers: Sequence[Connection], progress: Progress, stop: Stop
) -> Generator[FoldResult, None, None]:
    """What became of the folds, until every worker has ended or `stop` says so."""
    waiting, n_dead = list(receivers), 0
    while waiting and not stop:
        for receiver in wait(waiting, timeout=_LOOK_EVERY):
            assert isinstance(receiver, Connection)
            try:
                received: FromWorker = receiver.recv()
            except (EOFError, OSError):
                waiting.remove(receiver)
                n_dead += 1
                continue
            match received:
                case WorkerDone():
                    waiting.remove(receiver)
                case WorkerError(error):
                    raise error
                case FinishedTask() | LeftOut() | Failure():
                    yield received
                case message:
                    message.show(progress)
    if n_dead:
        n = len(receivers)
        progress.warn(
            f"{n_dead} of {n} processes died; what is left is trained by this one"
        )


def _worker_main(config: WorkerConfig, sender: Connection) -> None:
    """Train with a share of the cores until no fold is left; what happens goes to `sender`."""
    # Ctrl-C reaches all of them at once: the process that shows progress ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["OMP_NUM_THREADS"] = str(config.threads)
    import torch

    torch.set_num_threads(config.threads)
    try:
        interrupt_on_sigterm()  # so that the last epoch is kept
        _train(config, sender)
        sender.send(WorkerDone())
    except KeyboardInterrupt:
        return
    except (EnsemblerError, OSError) as error:
        sender.send(WorkerError(_plain(error)))
    finally:
        # nothing is left to keep, and the interpreter is about to end
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _train(config: WorkerConfig, sender: Connection) -> None:
    from ensembler.members.option_claims import check_nobody_trains_otherwise, claim_options
    from ensembler.members.schedule import trainings_of
    from ensembler.recipe.own_code import introduce_code_of
    from ensembler.workspace.workspace import open_workspace

    def send(message: FromWorker) -> None:
        try:
            sender.send(message)
        except BrokenPipeError:  # the process that shows progress is gone
            raise KeyboardInterrupt from None

    # What opening has to say, the process that shows progress has said.
    introduce_code_of(config.recipe, Progress())
    opened = open_workspace(
        config.recipe, config.artifacts, check=check_nobody_trains_otherwise
    )
    workspace = replace(opened, progress=ProgressForwarder(send))
    selected = [planned for planned in workspace.members if planned.name in config.members]
    trainings = trainings_of(workspace, selected)
    several = config.execution.processes > 1
    executor = Together(config.execution) if several else Here(config.execution)
    executor.check()
    with claim_options(trainings):
        for result in executor.run(workspace, trainings, config.tasks, config.stop):
            send(result)


def _plain(error: EnsemblerError | OSError) -> EnsemblerError | OSError:
    """The same error without arguments of its own, which do not travel."""
    if isinstance(error, RequestError):
        return RequestError(str(error))
    if isinstance(error, EnsemblerError):
        return EnsemblerError(str(error))
    return OSError(error.errno, error.strerror, error.filename)
