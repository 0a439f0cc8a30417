"""Means of probabilities other than the plain one."""

from __future__ import annotations

from typing import Self

import numpy as np

from ensembler.blending.methods.base import Blender, check_number
from ensembler.blending.pool import Probs, Stack, Targets
from ensembler.blending.registry import check_stack
from ensembler.errors import RequestError
from ensembler.logits import FLOOR, softmax


class _Mean(Blender):
    needs_fit = False

    def fit(self, stack: Stack, y: Targets) -> Self:
        """Learn nothing but the number of members; the stack is checked."""
        self._enter(stack, y)
        return self

    def _checked(self, stack: Stack) -> Stack:
        return check_stack(self._known(stack))


class GeometricMean(_Mean):
    """The renormalised geometric mean: the softmax of the mean log-probabilities."""

    def predict_proba(self, stack: Stack) -> Probs:
        """Probabilities `[samples, classes]`."""
        stack = self._checked(stack)
        logs = sum(np.log(np.clip(probs, FLOOR, None, dtype=np.float64)) for probs in stack)
        return softmax(logs / len(stack))


class PowerMean(_Mean):
    """The renormalised power mean.

    Power 1 is the soft vote, towards 0 the geometric mean; larger powers trust confident members
    more.
    """

    def __init__(self, power: float = 0.5) -> None:
        self.power = power

    def fit(self, stack: Stack, y: Targets) -> Self:
        """Check the power; RequestError when it is not positive."""
        check_number("power", self.power, above=0.0)
        return super().fit(stack, y)

    def predict_proba(self, stack: Stack) -> Probs:
        """Probabilities `[samples, classes]`."""
        stack = self._checked(stack)
        total = sum(
            np.clip(probs, FLOOR, None, dtype=np.float64) ** self.power for probs in stack
        )
        mean = (total / len(stack)) ** (1 / self.power)
        return mean / mean.sum(axis=1, keepdims=True)


class Median(_Mean):
    """The renormalised median of the members' probabilities, class by class."""

    def predict_proba(self, stack: Stack) -> Probs:
        """Probabilities `[samples, classes]`."""
        median = np.clip(
            np.median(self._checked(stack).astype(np.float64), axis=0), FLOOR, None
        )
        return median / median.sum(axis=1, keepdims=True)


class TrimmedMean(_Mean):
    """The renormalised mean without the smallest and largest `share` of the probabilities.

    Members are left out class by class.
    """

    def __init__(self, share: float = 0.2) -> None:
        self.share = share

    def fit(self, stack: Stack, y: Targets) -> Self:
        """Check the share; RequestError outside 0..0.5."""
        if check_number("share", self.share) >= 0.5:
            raise RequestError(
                f"share is {self.share!r}, expected at least 0 and less than 0.5"
            )
        return super().fit(stack, y)

    def predict_proba(self, stack: Stack) -> Probs:
        """Probabilities `[samples, classes]`."""
        ordered = np.sort(self._checked(stack).astype(np.float64), axis=0)
        cut = int(self.share * len(ordered))
        mean = np.clip(ordered[cut : len(ordered) - cut].mean(axis=0), FLOOR, None)
        return mean / mean.sum(axis=1, keepdims=True)


class RankMean(_Mean):
    """The mean of per-class ranks of samples, for metrics that use order only (AUC).

    The order of samples in each class is that of their mean ranks, so one constant scales all rows:
    two classes sum to one, rows of more classes do so on average only. The result is no
    probability, and its log loss, Brier score and calibration error mean nothing. The ranks depend
    on the batch that is scored.
    """

    gives_probabilities = False

    def predict_proba(self, stack: Stack) -> Probs:
        """Scaled mean ranks within 0 and 1 `[samples, classes]`."""
        from scipy.stats import rankdata

        stack = self._checked(stack)
        _, rows, classes = stack.shape
        ranks = sum(rankdata(probs, axis=0) for probs in stack) / len(stack)
        mean_row_sum = classes * (rows + 1) / 2
        return ranks / mean_row_sum
