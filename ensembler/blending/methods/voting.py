"""Votes: every member counts the same, by given weights, or only the best one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ensembler.blending.methods.base import Blender
from ensembler.blending.pool import Probs, Stack, Targets
from ensembler.blending.registry import check_shape, check_stack, check_values
from ensembler.errors import RequestError
from ensembler.metrics import is_better, score


def linear_pool(stack: Stack, weights: NDArray[np.float64]) -> Probs:
    """The weighted mean of probabilities float64 `[samples, classes]`.

    Members of weight zero are not read.
    """
    stack = check_shape(stack)
    if len(stack) != len(weights):
        raise RequestError(f"{len(weights)} weights for {len(stack)} members")
    total = np.zeros(stack.shape[1:], np.float64)
    for m in np.flatnonzero(weights):
        probs = stack[m]
        check_values(probs)
        total += weights[m] * probs
    total /= total.sum(axis=1, keepdims=True)
    return total


class SoftVote(Blender):
    """The mean of the members' probabilities, every member counting the same."""

    needs_fit = False
    takes_parts = True

    def fit(self, stack: Stack, y: Targets) -> Self:
        """Learn nothing but the number of members."""
        stack, _ = self._enter(stack, y)
        self.weights_ = np.full(len(stack), 1 / len(stack))
        return self

    def predict_proba(self, stack: Stack) -> Probs:
        """Probabilities `[samples, classes]`."""
        return linear_pool(self._known(stack), self.weights_)


class WeightedVote(Blender):
    """The weighted mean of the members' probabilities, with weights given by hand.

    The weights are in the members' order.
    """

    needs_fit = False
    takes_parts = True
    zero_weight_is_absent = True

    def __init__(self, weights: Sequence[float]) -> None:
        self.weights = weights

    @classmethod
    def options_for_members(
        cls, options: Mapping[str, Any], kept: Sequence[int]
    ) -> dict[str, Any]:
        """Their weights; all the same where those that are left are zero."""
        weights = [options["weights"][m] for m in kept]
        return {**options, "weights": weights if sum(weights) > 0 else [1.0] * len(weights)}

    def fit(self, stack: Stack, y: Targets) -> Self:
        """Scale the weights to the sum 1; RequestError when they do not fit the members."""
        stack, _ = self._enter(stack, y)
        try:
            weights = np.asarray(self.weights, np.float64)
        except (TypeError, ValueError) as error:
            raise RequestError(
                f"weights are {self.weights!r}, expected a number for each member"
            ) from error
        if weights.shape != (len(stack),):
            raise RequestError(f"{weights.size} weights for {len(stack)} members")
        if not np.isfinite(weights).all() or (weights < 0).any() or weights.sum() == 0:
            raise RequestError(
                f"weights {weights.tolist()} should be finite, not negative and not all zero"
            )
        self.weights_ = weights / weights.sum()
        return self

    def predict_proba(self, stack: Stack) -> Probs:
        """Probabilities `[samples, classes]`."""
        return linear_pool(self._known(stack), self.weights_)


class BestMember(Blender):
    """The one member that scores best on the fitted rows; ties go to the first."""

    capacity = "linear"
    takes_parts = True
    zero_weight_is_absent = True

    def __init__(self, metric: str = "log_loss") -> None:
        self.metric = metric

    def fit(self, stack: Stack, y: Targets) -> Self:
        """Find the best member."""
        stack, y = self._enter(stack, y)
        best, best_value = 0, np.nan
        for i, probs in enumerate(stack):
            value = score(self.metric, probs, y)
            if is_better(self.metric, value, best_value) or (
                np.isnan(best_value) and not np.isnan(value)
            ):
                best, best_value = i, value
        self.weights_ = np.eye(len(stack))[best]
        return self

    def predict_proba(self, stack: Stack) -> Probs:
        """That member's probabilities `[samples, classes]`."""
        return linear_pool(self._known(stack), self.weights_)


class HardVote(Blender):
    """The share of members that vote for each class.

    A tie in votes goes to the class with the larger mean probability: that mean, scaled below the
    worth of any vote, is added before normalising.
    """

    needs_fit = False
    takes_votes = True

    def fit(self, stack: Stack, y: Targets) -> Self:
        """Learn nothing but the number of members."""
        stack, _ = self._enter(stack, y)
        self.weights_ = np.full(len(stack), 1 / len(stack))
        return self

    def predict_proba(self, stack: Stack) -> Probs:
        """Shares of votes `[samples, classes]`."""
        stack = check_stack(self._known(stack))
        members, _, classes = stack.shape
        votes = np.zeros(stack.shape[1:], np.float64)
        for probs in stack:
            votes[np.arange(len(probs)), probs.argmax(axis=1)] += 1
        total = votes / members + stack.mean(axis=0, dtype=np.float64) / (members * 1000)
        return total / total.sum(axis=1, keepdims=True)
