"""Progress on a terminal as one live display, elsewhere as plain lines, with an estimate of the time left."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ensembler.cli.terminal import duration
from ensembler.pipeline.progress import Epoch, FoldJob, Progress


@contextmanager
def show_progress(*, quiet: bool) -> Iterator[Progress]:
    """Yield what a long job tells its progress to: a live display, plain lines, or only warnings."""
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


class _Pace:
    """How much of the planned training is done, in epochs, and how long the rest may take."""

    def __init__(self) -> None:
        self.total = 0
        self.done = 0
        self.seconds = 0.0
        self._by_member: dict[str, list[float]] = {}
        self._waiting: dict[str, int] = {}

    def plan(self, jobs: Sequence[FoldJob]) -> None:
        self.total += sum(job.epochs for job in jobs)
        for job in jobs:
            self._waiting[job.member] = self._waiting.get(job.member, 0) + job.epochs

    def epoch(self, epoch: Epoch) -> None:
        self.done += 1
        self._by_member.setdefault(epoch.member, []).append(epoch.seconds)
        self._waiting[epoch.member] = max(0, self._waiting.get(epoch.member, 0) - 1)

    @property
    def left(self) -> float:
        """Seconds left: each member at its own pace, one not begun yet at the mean pace of the others."""
        paces = {name: sum(s) / len(s) for name, s in self._by_member.items()}
        mean = sum(paces.values()) / len(paces) if paces else 0.0
        return sum(epochs * paces.get(name, mean) for name, epochs in self._waiting.items())


def _epoch_text(epoch: Epoch) -> str:
    score = "" if epoch.score is None else f", accuracy {epoch.score:.4f}"
    loss = "" if epoch.loss is None else f", loss {epoch.loss:.4f}"
    return f"{epoch.member} fold {epoch.fold}: epoch {epoch.epoch}/{epoch.epochs}{loss}{score}"


class PlainProgress(Warnings):
    """A line for each epoch, finished fold and note; counted steps at most every ten seconds."""

    def __init__(self) -> None:
        self.pace = _Pace()
        self._last_step = time.monotonic()

    def plan(self, jobs: Sequence[FoldJob]) -> None:
        """Say how much there is to train."""
        self.pace.plan(jobs)
        if jobs:
            members = len({job.member for job in jobs})
            self._line(f"training {len(jobs)} folds of {members} members, {self.pace.total} epochs")

    def step(self, what: str, done: int, total: int) -> None:
        """Say how far a step is, at most every ten seconds."""
        if time.monotonic() - self._last_step > 10:
            self._last_step = time.monotonic()
            self._line(f"{what}: {done}/{total}")

    def epoch(self, epoch: Epoch) -> None:
        """Say how an epoch went."""
        self.pace.epoch(epoch)
        self._line(f"{_epoch_text(epoch)}, {duration(self.pace.left)} left")

    def fold_done(self, job: FoldJob, text: str) -> None:
        """Say how a fold went."""
        self._line(f"{job.member} fold {job.fold} finished: {text}")

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

        self.pace = _Pace()
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

    def plan(self, jobs: Sequence[FoldJob]) -> None:
        """Open the bar over all epochs."""
        self.pace.plan(jobs)
        if not jobs:
            return
        if self._training is None:
            self._training = self.bars.add_task("training", total=self.pace.total, left="")
        self.bars.update(self._training, total=self.pace.total)

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
        self.pace.epoch(epoch)
        if self._training is not None:
            left = f"{duration(self.pace.left)} left"
            self.bars.update(self._training, completed=self.pace.done, description=_epoch_text(epoch), left=left)

    def fold_done(self, job: FoldJob, text: str) -> None:
        """Let a finished fold scroll by."""
        self.console.print(f"{job.member} fold {job.fold} finished: {text}")

    def note(self, text: str) -> None:
        """Let a note scroll by."""
        self.console.print(text)

    def warn(self, text: str) -> None:
        """Let a warning scroll by."""
        self.console.print(f"warning: {text}", style="yellow")
