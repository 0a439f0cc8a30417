"""Several folds at once: processes that share a run by claiming its folds, and one that hears of all of them.

For networks too small to fill a device, or to keep several cores busy in step. Each process
computes with its share of the cores.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ensembler.errors import EnsemblerError, RequestError
from ensembler.machine.cores import available_cores
from ensembler.members.executor import Failure, Shared
from ensembler.progress import Epoch, FoldJob, Progress

if TYPE_CHECKING:
    from ensembler.recipe.load import Recipe
    from ensembler.workspace.workspace import Workspace


@dataclass(frozen=True)
class Share:
    """What every process is told: the run, and which of its folds are wanted."""

    recipe: Recipe
    artifacts: Path
    members: tuple[str, ...]
    folds: tuple[int, ...] | None
    device: str
    workers: int
    threads: int


class Sender(Progress):
    """Passes everything on to the process that shows it.

    Ends this process when that one is gone.
    """

    def __init__(self, mouth: Connection) -> None:
        self._mouth = mouth

    def _send(self, what: str, *given: Any) -> None:
        try:
            self._mouth.send((what, given))
        except BrokenPipeError:
            raise KeyboardInterrupt from None

    def step(self, what: str, done: int, total: int) -> None:
        """Pass it on."""
        self._send("step", what, done, total)

    def epoch(self, epoch: Epoch) -> None:
        """Pass it on."""
        self._send("epoch", epoch)

    def fold_done(self, job: FoldJob, text: str) -> None:
        """Pass it on."""
        self._send("fold_done", job, text)

    def failed(self, member: str) -> None:
        """Pass it on."""
        self._send("failed", member)

    def note(self, text: str) -> None:
        """Pass it on."""
        self._send("note", text)

    def warn(self, text: str) -> None:
        """Pass it on."""
        self._send("warn", text)


@dataclass(frozen=True)
class Processes:
    """Trains several folds at once, each in a process of its own on this machine."""

    count: int

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
        """Train the missing folds, `n_folds` in all.

        None, and nothing trained, where one process does it as well.
        """
        n = min(self.count, n_folds)
        if n < 2:
            return None
        return train_in_processes(
            n, workspace, members, folds, device=device, workers=workers, on_fold=on_fold
        )


def train_in_processes(
    n: int,
    workspace: Workspace,
    members: Sequence[str],
    folds: Sequence[int] | None,
    *,
    device: str,
    workers: int | None,
    on_fold: Callable[[], None] | None,
) -> Shared:
    """Train the missing folds of `members` in `n` processes.

    A process that dies leaves its folds to the caller. `on_fold` is called here after each finished
    fold. What a process raises for the user is raised here.
    """
    share = Share(
        workspace.recipe,
        workspace.artifacts,
        tuple(members),
        None if folds is None else tuple(folds),
        device,
        share_of_loaders(n, device) if workers is None else workers,
        max(1, available_cores() // n),
    )
    context = get_context("spawn")
    processes: list[SpawnProcess] = []
    ears: list[Connection] = []
    try:
        for _ in range(n):
            ear, mouth = context.Pipe(duplex=False)
            ears.append(ear)
            processes.append(context.Process(target=_work, args=(share, mouth)))
            processes[-1].start()
            # held by the process alone: when it ends, however it ends, its ear hears the end
            mouth.close()
        return _listen(ears, workspace.progress, on_fold)
    finally:
        for process in processes:
            process.terminate()
            process.join()


def share_of_loaders(n: int, device: str) -> int:
    """How many loader processes each of `n` processes takes, so that all together are as many as one alone takes."""
    from ensembler.networks.devices import loader_processes, pick_device

    alone = loader_processes(pick_device(device))
    return max(1, alone // n) if alone else 0


def _listen(
    ears: Sequence[Connection], progress: Progress, on_fold: Callable[[], None] | None
) -> Shared:
    trained: list[FoldJob] = []
    failures: list[Failure] = []
    open_ears, dead = list(ears), 0
    while open_ears:
        for ear in wait(open_ears):
            assert isinstance(ear, Connection)
            try:
                what, given = ear.recv()
            except (EOFError, OSError):
                open_ears.remove(ear)
                dead += 1
                continue
            if what == "result":
                open_ears.remove(ear)
                trained += given[0]
                failures += [failure for failure in given[1] if failure not in failures]
            elif what == "error":
                raise given[0]
            else:
                getattr(progress, what)(*given)
            if what == "fold_done" and on_fold is not None:
                on_fold()
    if dead:
        progress.warn(f"{dead} of {len(ears)} processes died; what is left is trained by this one")
    return Shared(tuple(trained), tuple(failures))


def _work(share: Share, mouth: Connection) -> None:
    """Train with a share of the cores until no fold is left; what happens goes into `mouth`."""
    # Ctrl-C reaches all of them at once: the process that shows progress ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["OMP_NUM_THREADS"] = str(share.threads)
    import torch

    from ensembler.members.option_claims import check_nobody_trains_otherwise
    from ensembler.members.schedule import Trainer
    from ensembler.recipe.own_code import introduce_code_of
    from ensembler.workspace.workspace import open_workspace

    torch.set_num_threads(share.threads)
    try:
        signal.signal(signal.SIGTERM, _stop)  # so that the last epoch is kept
        # What opening has to say, the process that shows progress has said.
        introduce_code_of(share.recipe, Progress())
        opened = open_workspace(share.recipe, share.artifacts, check=check_nobody_trains_otherwise)
        workspace = replace(opened, progress=Sender(mouth))
        trainer = Trainer(workspace, share.device, share.workers, helps=True)
        result = trainer.train(
            [job for job in workspace.jobs if job.name in share.members], share.folds
        )
        mouth.send(("result", (result.trained, result.failures)))
    except KeyboardInterrupt:
        return
    except RequestError as error:
        mouth.send(
            ("error", (RequestError(str(error)),))
        )  # plain: errors with arguments of their own do not travel
    except EnsemblerError as error:
        mouth.send(("error", (EnsemblerError(str(error)),)))
    except OSError as error:
        mouth.send(("error", (OSError(error.errno, error.strerror, error.filename),)))
    finally:
        signal.signal(
            signal.SIGTERM, signal.SIG_DFL
        )  # nothing is left to keep, and the interpreter is about to end


def _stop(*_: object) -> None:
    raise KeyboardInterrupt
