"""Where folds are trained: what an executor is given, and what it answers."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Protocol

from ensembler.members.training import Training
from ensembler.progress import FoldTask
from ensembler.stop import Stop
from ensembler.workspace.workspace import Workspace


@dataclass(frozen=True)
class Failure:
    """A member that could not be trained, and why."""

    member: str
    fold: int
    message: str


@dataclass(frozen=True)
class FinishedTask:
    """A fold whose logits are kept now.

    Not `was_trained` where its network was there already, so that it only had to predict.
    `is_short` where time ended before its last epoch: its logits are of a member of their own.
    """

    task: FoldTask
    was_trained: bool
    is_short: bool = False


@dataclass(frozen=True)
class LeftOut:
    """A fold for which there was no time, and why."""

    task: FoldTask
    reason: str


FoldResult = FinishedTask | LeftOut | Failure


class Executor(Protocol):
    """Trains folds: in this process, in several of this machine, or on others."""

    @property
    def at_once(self) -> int:
        """How many folds it trains at the same time, at most."""

    def check(self) -> None:
        """Raise RequestError when it cannot work here, before anything is touched."""

    def run(
        self,
        workspace: Workspace,
        trainings: Sequence[Training],
        tasks: Sequence[FoldTask],
        stop: Stop,
    ) -> Generator[FoldResult, None, None]:
        """Do the `tasks`, folds of the `trainings`, and yield what became of each as it ends.

        What happens meanwhile is shown on the workspace's progress. A fold that another process
        works on is waited for; it is not among the results unless it had to be taken over. Ends
        early when `stop` says so. An error that concerns all members is raised.
        """
