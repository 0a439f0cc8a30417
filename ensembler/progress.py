"""What a long job tells while it runs; the command line shows it, a notebook may ignore it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class FoldJob:
    """One fold of one member that is to be trained, and how much work that is.

    An epoch's cost is in proportion to its `work`, the pixels of an image, among members of the
    same `network`; while the backbone is frozen, for the first `frozen_epochs`, it is another one.
    """

    member: str
    fold: int
    epochs: int
    network: str = ""
    work: float = 1.0
    frozen_epochs: int = 0


@dataclass(frozen=True)
class Epoch:
    """One finished epoch.

    `loss` when the training tells it, `score` is the validation accuracy when there is one.
    """

    member: str
    fold: int
    epoch: int
    epochs: int
    loss: float | None
    score: float | None
    seconds: float


class Progress:
    """Hears what happens; this one keeps quiet. Override what is to be shown."""

    def plan(self, jobs: Sequence[FoldJob]) -> None:
        """These folds are to be trained now."""

    def step(self, what: str, done: int, total: int) -> None:
        """A countable step ("decoding", "predicting cnn fold 0") got to `done` of `total`."""

    def epoch(self, epoch: Epoch) -> None:
        """An epoch ended."""

    def fold_done(self, job: FoldJob, text: str) -> None:
        """A fold is finished and its logits are kept; `text` is its score in words."""

    def failed(self, member: str) -> None:
        """A member could not be trained; what it still lacks is not tried."""

    def note(self, text: str) -> None:
        """Something worth a line happened."""

    def warn(self, text: str) -> None:
        """Something the user should act on happened."""
