"""What a fold is trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ensembler.data.pixels import Pixels
from ensembler.targets.kinds import SINGLE_LABEL, TargetKind

if TYPE_CHECKING:
    from ensembler.training.distillation import SoftTargets


@dataclass(frozen=True)
class FoldData:
    """What a fold is trained on.

    `pixels` uint8 `[images, height, width, channels]`, `targets` int64 `[images]`, `train_rows` and
    `valid_rows` positions among the images; `valid_rows` may be empty. Of several tasks `targets`
    is `[images, tasks]`, `tasks` the number of classes of each, and `classes` their sum. `kinds`
    are those of the tasks (default: single labels); a multi-label task has a column of targets for
    each class, 0 or 1 (-1 = unknown). `balance` `[images]` are the labels that a
    sampler balances (default: the targets), `weights` `[images]` those of sampler: weights; `names`
    the class names of each task. A `teacher` gives soft targets of all images that are trained on.
    """

    pixels: Pixels
    targets: NDArray[np.int64]
    train_rows: NDArray[np.int64]
    valid_rows: NDArray[np.int64]
    classes: int
    tasks: tuple[int, ...] | None = None
    balance: NDArray[np.int64] | None = None
    weights: NDArray[np.float64] | None = None
    names: tuple[tuple[str, ...], ...] | None = None
    kinds: tuple[TargetKind, ...] = ()
    teacher: SoftTargets | None = None

    @property
    def learned(self) -> NDArray[np.int64]:
        """What a batch says of its images `[images, ...]`: the targets.

        With a teacher it is their positions, by which the loss finds both.
        """
        return self.targets if self.teacher is None else np.arange(len(self.targets))

    @property
    def labelled_rows(self) -> NDArray[np.int64]:
        """The rows that one fold or another is trained on."""
        return np.concatenate([self.train_rows, self.valid_rows])

    @property
    def sizes(self) -> tuple[int, ...]:
        """The number of logits of each task."""
        return self.tasks or (self.classes,)

    @property
    def columns(self) -> tuple[int, ...]:
        """The number of columns of targets of each task."""
        tasks = zip(self.task_kinds, self.sizes, strict=True)
        return tuple(kind.n_columns(size) for kind, size in tasks)

    @property
    def task_kinds(self) -> tuple[TargetKind, ...]:
        """Of each task whether rows have one label, or several at once."""
        return self.kinds or (SINGLE_LABEL,) * len(self.sizes)

    @property
    def train_labels(self) -> NDArray[np.int64]:
        """What a sampler balances, `[train rows]`."""
        labels = self.balance if self.balance is not None else self.targets
        return (labels if labels.ndim == 1 else labels[:, 0])[self.train_rows]
