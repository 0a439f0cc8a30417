"""What a training leaves: its networks, and how it went from epoch to epoch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from ensembler.progress import Epoch

if TYPE_CHECKING:
    from ensembler.networks.build import Normalised


@dataclass(frozen=True)
class EpochRecord:
    """One epoch of a fold.

    `loss` is that on the train rows when it is known, `lr` the learning rate at the epoch's first
    step, `score` and `valid_loss` are accuracy (of several labels at once of whole sets) and log
    loss on the validation rows, None after epochs that were not validated; `judged` is the value of
    the metric that chooses the epoch, where one is chosen. `validating` are those of the `seconds`
    that the validation took.
    """

    epoch: int
    epochs: int
    loss: float | None
    lr: float
    seconds: float
    score: float | None = None
    valid_loss: float | None = None
    judged: float | None = None
    validating: float = 0.0

    def of(self, training: str, fold: int) -> Epoch:
        """The same as progress shows it."""
        return Epoch(
            training,
            fold,
            self.epoch,
            self.epochs,
            self.loss,
            self.score,
            self.seconds,
            self.valid_loss,
        )

    def to_json(self) -> dict[str, Any]:
        """As plain values; a figure that is not finite becomes None."""
        return {
            k: v if not isinstance(v, float) or math.isfinite(v) else None
            for k, v in asdict(self).items()
        }


class EndedEarly(Exception):
    """A training ended before its last epoch, with its network as it was then: `trained`."""

    def __init__(self, trained: TrainedFold) -> None:
        super().__init__(f"ended after epoch {len(trained.history)}")
        self.trained = trained


@dataclass(frozen=True)
class TrainedFold:
    """What a training left, in evaluation mode, and how it came about.

    `networks` by name: last (or ema), and what else was asked for: averages, snapshots, estimators
    of an ensemble. `augmented_on` says where images were augmented: host, device or None = not at
    all. `chosen_epoch` is the one that the first of them is of, `epochs` names those of
    the others.
    """

    networks: Mapping[str, Normalised]
    history: tuple[EpochRecord, ...]
    chosen_epoch: int
    seconds: float
    made_of: tuple[str, ...] = ()  # the members whose weights a soup averages
    epochs: Mapping[str, int] = field(default_factory=dict)
    augmented_on: str | None = None
    images_at_once: int | None = None  # None: whole batches

    def epoch_of(self, name: str) -> int:
        """The epoch after which one of the networks was taken."""
        return self.epochs.get(name, self.chosen_epoch)

    @property
    def network(self) -> Normalised:
        """The first of its networks."""
        return next(iter(self.networks.values()))
