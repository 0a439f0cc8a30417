"""Where folds are trained when not in this process: what an executor is asked, and what it answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from ensembler.progress import FoldJob
from ensembler.workspace.workspace import Workspace


@dataclass(frozen=True)
class Failure:
    """A member that could not be trained, and why."""

    member: str
    fold: int
    message: str


@dataclass(frozen=True)
class Shared:
    """What others did: the folds they trained, and the members that failed in one of them."""

    trained: tuple[FoldJob, ...]
    failures: tuple[Failure, ...]


class Executor(Protocol):
    """Trains folds somewhere else: in processes of this machine, or on others."""

    def train(
        self,
        workspace: Workspace,
        members: Sequence[str],
        folds: Sequence[int] | None,
        *,
        n_folds: int,
        device: str,
        workers: int | None,
        on_fold: Callable[[], None] | None,
    ) -> Shared | None:
        """Train the missing folds of `members`, `n_folds` in all.

        None leaves all of them to this process. `on_fold` is called here after each finished fold.
        A fold that was not finished there is trained here.
        """
