"""What a long job reports while it runs; the command line shows it, a notebook may ignore it.

A `Progress` is passed as itself to whatever takes long. The messages are what is sent to it from
another process.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class FoldCost:
    """How much work a fold is.

    An epoch's cost is in proportion to its `work`, the pixels of an image, among trainings of the
    same `network`; while the backbone is frozen, for the first `frozen_epochs`, it is another one.
    """

    epochs: int
    network: str = ""
    work: float = 1.0
    frozen_epochs: int = 0


@dataclass(frozen=True)
class FoldTask:
    """One fold of one training that is to be done, and how much work that is."""

    training: str
    fold: int
    cost: FoldCost


@dataclass(frozen=True)
class Epoch:
    """One finished epoch.

    `loss` when the training knows it, `score` is the validation accuracy when there is one, and
    `valid_loss` the log loss beside it.
    """

    training: str
    fold: int
    epoch: int
    epochs: int
    loss: float | None
    score: float | None
    seconds: float
    valid_loss: float | None = None

    def show(self, progress: Progress) -> None:
        """Show it on `progress`."""
        progress.epoch(self)


class Progress:
    """Receives what happens; this one keeps quiet. Override what is to be shown."""

    def plan(self, tasks: Sequence[FoldTask], at_once: int = 1) -> None:
        """These folds are to be trained now, `at_once` at the same time."""

    def step(self, what: str, done: int, total: int) -> None:
        """A countable step ("decoding", "predicting cnn fold 0") got to `done` of `total`."""

    def epoch(self, epoch: Epoch) -> None:
        """An epoch ended."""

    def fold_done(self, task: FoldTask, text: str) -> None:
        """A fold is finished and its logits are kept; `text` is its score in words."""

    def failed(self, training: str) -> None:
        """A training failed; what it still lacks is not tried."""

    def note(self, text: str) -> None:
        """Something worth a line happened."""

    def warn(self, text: str) -> None:
        """Something the user should act on happened."""


QUIET = Progress()


class RecordedProgress(Progress):
    """Shows nothing and keeps what happened, for whoever wants it as values."""

    def __init__(self) -> None:
        self.steps: list[tuple[str, int, int]] = []
        self.epochs: list[Epoch] = []
        self.finished: list[FoldTask] = []
        self.notes: list[str] = []
        self.warnings: list[str] = []

    def step(self, what: str, done: int, total: int) -> None:
        """Keep it."""
        self.steps.append((what, done, total))

    def epoch(self, epoch: Epoch) -> None:
        """Keep it."""
        self.epochs.append(epoch)

    def fold_done(self, task: FoldTask, text: str) -> None:  # noqa: ARG002 only which, not how well
        """Keep it."""
        self.finished.append(task)

    def note(self, text: str) -> None:
        """Keep it."""
        self.notes.append(text)

    def warn(self, text: str) -> None:
        """Keep it."""
        self.warnings.append(text)


class Message(Protocol):
    """Something that happened, on its way from another process."""

    def show(self, progress: Progress) -> None:
        """Show it on `progress`."""


@dataclass(frozen=True)
class StepMessage:
    """A countable step advanced."""

    what: str
    done: int
    total: int

    def show(self, progress: Progress) -> None:
        """Show it on `progress`."""
        progress.step(self.what, self.done, self.total)


@dataclass(frozen=True)
class FoldDoneMessage:
    """A fold is finished."""

    task: FoldTask
    text: str

    def show(self, progress: Progress) -> None:
        """Show it on `progress`."""
        progress.fold_done(self.task, self.text)


@dataclass(frozen=True)
class FailedMessage:
    """A training failed."""

    training: str

    def show(self, progress: Progress) -> None:
        """Show it on `progress`."""
        progress.failed(self.training)


@dataclass(frozen=True)
class NoteMessage:
    """Something worth a line happened."""

    text: str

    def show(self, progress: Progress) -> None:
        """Show it on `progress`."""
        progress.note(self.text)


@dataclass(frozen=True)
class WarningMessage:
    """Something the user should act on happened."""

    text: str

    def show(self, progress: Progress) -> None:
        """Show it on `progress`."""
        progress.warn(self.text)


class RelayedProgress(Progress):
    """Shows everything on another progress, as it is."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def plan(self, tasks: Sequence[FoldTask], at_once: int = 1) -> None:
        """Show it as it is."""
        self._progress.plan(tasks, at_once)

    def step(self, what: str, done: int, total: int) -> None:
        """Show it as it is."""
        self._progress.step(what, done, total)

    def epoch(self, epoch: Epoch) -> None:
        """Show it as it is."""
        self._progress.epoch(epoch)

    def fold_done(self, task: FoldTask, text: str) -> None:
        """Show it as it is."""
        self._progress.fold_done(task, text)

    def failed(self, training: str) -> None:
        """Show it as it is."""
        self._progress.failed(training)

    def note(self, text: str) -> None:
        """Show it as it is."""
        self._progress.note(text)

    def warn(self, text: str) -> None:
        """Show it as it is."""
        self._progress.warn(text)


class PrefixedProgress(Progress):
    """Shows everything on another progress, notes and warnings with what they are about."""

    def __init__(self, progress: Progress, prefix: str) -> None:
        self._progress = progress
        self._prefix = prefix

    def step(self, what: str, done: int, total: int) -> None:
        """Show it as it is."""
        self._progress.step(what, done, total)

    def epoch(self, epoch: Epoch) -> None:
        """Show it as it is."""
        self._progress.epoch(epoch)

    def note(self, text: str) -> None:
        """Show it with what it is about."""
        self._progress.note(f"{self._prefix}: {text}")

    def warn(self, text: str) -> None:
        """Show it with what it is about."""
        self._progress.warn(f"{self._prefix}: {text}")


class ProgressForwarder(Progress):
    """Sends everything on as messages to where it is shown; the plan is known there."""

    def __init__(self, send: Callable[[Message], None]) -> None:
        self._send = send

    def step(self, what: str, done: int, total: int) -> None:
        """Send it on."""
        self._send(StepMessage(what, done, total))

    def epoch(self, epoch: Epoch) -> None:
        """Send it on."""
        self._send(epoch)

    def fold_done(self, task: FoldTask, text: str) -> None:
        """Send it on."""
        self._send(FoldDoneMessage(task, text))

    def failed(self, training: str) -> None:
        """Send it on."""
        self._send(FailedMessage(training))

    def note(self, text: str) -> None:
        """Send it on."""
        self._send(NoteMessage(text))

    def warn(self, text: str) -> None:
        """Send it on."""
        self._send(WarningMessage(text))
