"""Folds trained at the same time on one card, by threads of this process.

For networks too small to fill a card. Each fold launches on a stream of its own, and one thread at
a time runs: between two steps it lets the others go on (`training/turns.py`). Whatever else a fold
needs (its claim, pixels, predictions) it does in its turn.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING

from ensembler.execution.here import Here
from ensembler.execution.shares import share_of_one
from ensembler.machine.execution import Execution
from ensembler.members.executor import Failure, FinishedTask, FoldResult, LeftOut
from ensembler.members.fold import FoldTrainer
from ensembler.members.schedule import trainings_of
from ensembler.progress import FoldTask, Message, ProgressForwarder
from ensembler.stop import Stop, Stopped

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ensembler.members.training import Training
    from ensembler.training.turns import Shared
    from ensembler.workspace.workspace import Workspace


@dataclass(frozen=True)
class _Ended:
    """A thread found nothing more to do, or met an error that concerns the whole job."""

    error: BaseException | None = None


_FromThread = Message | FoldResult | _Ended


@dataclass(frozen=True)
class Together:
    """Trains `execution.processes` folds at the same time in this process."""

    execution: Execution

    @property
    def at_once(self) -> int:
        """One fold for each thread."""
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
        """Do the tasks in threads, and then what other processes have left."""
        n = min(self.at_once, len(tasks))
        if n > 1:
            received: SimpleQueue[_FromThread] = SimpleQueue()
            heard = replace(workspace, progress=ProgressForwarder(received.put))
            members = [plan.member for training in trainings for plan in training.plans]
            again = trainings_of(heard, members)
            execution = share_of_one(self.execution, n)
            trainer = FoldTrainer(heard, {t.name: t for t in again}, execution, stop)
            with _threads(n, trainer, tasks, received):
                yield from _results(n, received, workspace)
        yield from Here(replace(self.execution, processes=1)).run(
            workspace, trainings, tasks, stop
        )


@contextmanager
def _threads(
    n: int,
    trainer: FoldTrainer,
    tasks: Sequence[FoldTask],
    received: SimpleQueue[_FromThread],
) -> Iterator[None]:
    """Start `n` threads that do the tasks; with the block each ends before its next step."""
    from ensembler.training.turns import Shared

    turns, left = Shared(), deque(tasks)
    worker = _Worker(replace(trainer, turns=turns), turns, left, received)
    threads = [Thread(target=worker.work, name=f"fold-{i}") for i in range(n)]
    try:
        for thread in threads:
            thread.start()
        yield
    finally:
        left.clear()
        turns.ends.request("interrupted")
        for thread in threads:
            thread.join()


@dataclass(frozen=True)
class _Worker:
    """What the threads do: one task after the other, each in its turn."""

    trainer: FoldTrainer
    turns: Shared
    left: deque[FoldTask]
    received: SimpleQueue[_FromThread] = field(repr=False)

    def work(self) -> None:
        """Do tasks until none is left; what happens goes to `received`."""
        try:
            with self.turns.baton.held():
                self._work()
        except Stopped:
            self.received.put(_Ended())
        # whatever it is, the thread that shows progress raises it
        except BaseException as error:
            self.received.put(_Ended(error))
        else:
            self.received.put(_Ended())

    def _work(self) -> None:
        while self.left and not self.trainer.stop:
            result = self.trainer.finish(self.left.popleft(), wait=False)
            if result is not None:
                self.received.put(result)
            self.turns.baton.pass_on()


def _results(
    n: int, received: SimpleQueue[_FromThread], workspace: Workspace
) -> Generator[FoldResult, None, None]:
    """What became of the folds, until every thread has ended."""
    while n:
        match received.get():
            case _Ended(error):
                n -= 1
                if error is not None:
                    raise error
            case FinishedTask() | LeftOut() | Failure() as result:
                yield result
            case message:
                message.show(workspace.progress)
