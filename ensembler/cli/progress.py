"""Progress: one live display on a terminal, plain lines elsewhere, with the time left."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ensembler.members.pace import TimeLeft
from ensembler.progress import Epoch, FoldTask, Progress
from ensembler.reporting.tables import duration


@contextmanager
def show_progress(*, quiet: bool) -> Iterator[Progress]:
    """Yield where a long job shows its progress: a live display, plain lines, or only warnings."""
    if quiet:
        yield Warnings()
    elif sys.stderr.isatty():
        live = LiveProgress()
        with live:
            yield live
    else:
        yield PlainProgress()


class Warnings(Progress):
    """Shows what the user should act on, nothing else."""

    def warn(self, text: str) -> None:
        """Show a warning."""
        print(f"warning: {text}", file=sys.stderr, flush=True)


def _epoch_text(epoch: Epoch) -> str:
    score = "" if epoch.score is None else f", accuracy {epoch.score:.4f}"
    loss = "" if epoch.loss is None else f", loss {epoch.loss:.4f}"
    return f"{epoch.training} fold {epoch.fold}: epoch {epoch.epoch}/{epoch.epochs}{loss}{score}"


def time_left_text(left: TimeLeft) -> str:
    """The time left in words; nothing while nothing is known."""
    estimate = left.estimate
    if estimate is None:
        return ""
    shortest, longest = duration(estimate.low), duration(estimate.high)
    time = shortest if shortest == longest else f"{shortest} to {longest}"
    if not estimate.untimed:
        return f"{time} left"
    n = len(estimate.untimed)
    names = estimate.untimed[0] if n == 1 else f"{n} members"
    return f"at least {shortest} left ({names} not timed yet)"


class PlainProgress(Warnings):
    """A line for each epoch, finished fold and note; counted steps at most every ten seconds."""

    def __init__(self) -> None:
        self.left = TimeLeft()
        self._last_step = time.monotonic()

    def plan(self, tasks: Sequence[FoldTask], at_once: int = 1) -> None:
        """Say how much there is to train."""
        self.left.plan(tasks, at_once)
        if tasks:
            members = len({task.training for task in tasks})
            self._line(
                f"training {len(tasks)} folds of {members} members, {self.left.total} epochs"
            )

    def step(self, what: str, done: int, total: int) -> None:
        """Say how far a step is, at most every ten seconds."""
        if time.monotonic() - self._last_step > 10:
            self._last_step = time.monotonic()
            self._line(f"{what}: {done}/{total}")

    def epoch(self, epoch: Epoch) -> None:
        """Say how an epoch went."""
        self.left.epoch(epoch)
        self._line(
            ", ".join(
                text for text in (_epoch_text(epoch), time_left_text(self.left)) if text
            )
        )

    def fold_done(self, task: FoldTask, text: str) -> None:
        """Say how a fold went."""
        self.left.fold_done(task)
        self._line(f"{task.training} fold {task.fold} finished: {text}")

    def failed(self, training: str) -> None:
        """Wait for nothing more of a training."""
        self.left.failed(training)

    def note(self, text: str) -> None:
        """Say what is worth a line."""
        self._line(text)

    def _line(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)


class LiveProgress(Warnings):
    """One bar over all epochs, one for the step at hand; finished folds and notes scroll above."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
        from rich.progress import Progress as Bars

        self.left = TimeLeft()
        self.console = Console(stderr=True, highlight=False, markup=False)
        self.bars: Any = Bars(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[left]}", markup=False),
            console=self.console,
            transient=True,
        )
        self._training: Any = None
        self._step: Any = None

    def __enter__(self) -> LiveProgress:
        self.bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.bars.stop()

    def plan(self, tasks: Sequence[FoldTask], at_once: int = 1) -> None:
        """Open the bar over all epochs."""
        self.left.plan(tasks, at_once)
        if not tasks:
            return
        if self._training is None:
            self._training = self.bars.add_task("training", total=self.left.total, left="")
        self.bars.update(self._training, total=self.left.total)

    def step(self, what: str, done: int, total: int) -> None:
        """Move the bar of the step at hand."""
        if self._step is None:
            self._step = self.bars.add_task(what, total=total, left="")
        self.bars.update(self._step, description=what, completed=done, total=total)
        if done >= total:
            self.bars.remove_task(self._step)
            self._step = None

    def epoch(self, epoch: Epoch) -> None:
        """Move the bar over all epochs."""
        self.left.epoch(epoch)
        if self._training is not None:
            done, left = self.left.done, time_left_text(self.left)
            self.bars.update(
                self._training, completed=done, description=_epoch_text(epoch), left=left
            )

    def fold_done(self, task: FoldTask, text: str) -> None:
        """Let a finished fold scroll by."""
        self.left.fold_done(task)
        self.console.print(f"{task.training} fold {task.fold} finished: {text}")

    def failed(self, training: str) -> None:
        """Wait for nothing more of a training."""
        self.left.failed(training)

    def note(self, text: str) -> None:
        """Let a note scroll by."""
        self.console.print(text)

    def warn(self, text: str) -> None:
        """Let a warning scroll by."""
        self.console.print(f"warning: {text}", style="yellow")
