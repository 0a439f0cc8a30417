"""What a metric is: its function, which way is better, and what optimising it may rely on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ensembler.targets.kinds import MULTI_LABEL, SINGLE_LABEL, TargetKind

# `[samples, classes]`: rows sum to one, or for several labels at once each label by itself
Probs: TypeAlias = NDArray[np.floating]
# `[samples]` class indices, or for several labels at once `[samples, classes]` of 0 and 1
Labels: TypeAlias = NDArray[np.integer]
Losses: TypeAlias = NDArray[np.float64]  # `[samples]`, lower is better
# `[candidates, true class, predicted class]` counts
Confusions: TypeAlias = NDArray[np.float64]
Values: TypeAlias = NDArray[np.float64]  # `[candidates]`
# `[samples, classes]`: which labels are given, or true
Decisions: TypeAlias = NDArray[np.bool_]

ANY_KIND: frozenset[TargetKind] = frozenset((SINGLE_LABEL, MULTI_LABEL))
LooksAt = Literal["probabilities", "order", "decisions", "unknown"]


@dataclass(frozen=True)
class Metric:
    """A score of probabilities against labels, and what is known of it.

    `compute(probs, y)` gives one number, NaN where the labels leave the score undefined. `kinds`
    are the kinds of target it fits. The rest is optional and makes optimising it fast:

    - `looks_at`: the probabilities themselves, their order within a class (ranks), or the decisions
      alone. Biases and thresholds are fitted to metrics of decisions, and to unknown ones.
    - `row_losses(probs, y)`: the loss of each sample, where the metric is their mean, or one minus
      their mean. Intervals then need no bootstrap.
    - `from_confusion(confusions)`: the metric of many confusion matrices at once (one label).
    - `at_cutoffs(given, truth, label, order)`: the metric, up to a constant and larger for better,
      when `label` is given to the first 0, 1, 2, ... samples of `order` and all other labels as
      `given` (several labels). `label_by_label` says that no label changes another one's term.
    """

    name: str
    compute: Callable[[Probs, Labels], float]
    greater_is_better: bool = True
    kinds: frozenset[TargetKind] = ANY_KIND
    looks_at: LooksAt = "unknown"
    row_losses: Callable[[Probs, Labels], Losses] | None = None
    from_confusion: Callable[[Confusions], Values] | None = None
    at_cutoffs: Callable[[Decisions, Decisions, int, NDArray[np.int64]], Values] | None = (
        None
    )
    label_by_label: bool = False

    @property
    def sign(self) -> int:
        """1 where more is better, else -1: `sign * value` is to be made large."""
        return 1 if self.greater_is_better else -1

    @property
    def may_move_decisions(self) -> bool:
        """Whether class biases and thresholds can be fitted to it."""
        return self.looks_at in ("decisions", "unknown")

    def is_better(self, value: float, than: float) -> bool:
        """Whether `value` is strictly better than `than`."""
        return value > than if self.greater_is_better else value < than
