"""Hill climbing: the weight of one member at a time moves while the metric improves.

Weights may fall below zero if that is allowed.
"""

from __future__ import annotations

import sys
from typing import Self

import numpy as np

from ensembler.blending.methods.base import (
    Blender,
    check_number,
    check_switch,
    check_time_limit,
)
from ensembler.blending.methods.stopping import search
from ensembler.blending.methods.voting import BestMember
from ensembler.blending.pool import Probs, Stack, Targets
from ensembler.blending.registry import check_stack
from ensembler.logits import FLOOR
from ensembler.metrics import check_metric, is_better, score
from ensembler.stop import Stop

_ENOUGH = 1e-9  # a perfect member would go on gaining less than this for ever


class HillClimbing(Blender):
    """Weights for any metric, by adding or removing steps of single members.

    The search begins with the best member. The step halves from `step` to `smallest`. With
    `negative`, a weight may fall below zero; probabilities that do are cut there. The weights sum
    to one. A search of more than `time_limit` seconds, or one that Ctrl-C meets, ends where it is
    (`stopped_early_`).
    """

    capacity = "linear"

    def __init__(
        self,
        metric: str = "log_loss",
        step: float = 0.2,
        smallest: float = 0.02,
        negative: bool = False,
        time_limit: float | None = None,
    ) -> None:
        self.metric = metric
        self.step = step
        self.smallest = smallest
        self.negative = negative
        self.time_limit = time_limit

    def fit(self, stack: Stack, y: Targets) -> Self:
        """Climb; RequestError for options that make no sense."""
        check_metric(self.metric)
        check_number("step", self.step, above=0.0)
        check_number("smallest", self.smallest, above=0.0)
        check_switch("negative", self.negative)
        check_time_limit(self.time_limit)
        stack, y = self._enter(stack, y)
        weights = BestMember(self.metric).fit(stack, y).weights_
        total = _mix(stack, weights)
        value = score(self.metric, _probs(total), y)
        step, moved = self.step, False

        def try_one(trial_of: int) -> bool:
            nonlocal weights, total, value, step, moved
            m = trial_of % len(stack)
            for change in (step, -step):
                if weights[m] + change < 0 and not self.negative:
                    continue
                trial = total + change * stack[m]
                trial_value = score(self.metric, _probs(trial), y)
                if (
                    is_better(self.metric, trial_value, value)
                    and abs(trial_value - value) > _ENOUGH
                ):
                    weights = weights.copy()
                    weights[m] += change
                    total, value, moved = trial, trial_value, True
            if m == len(stack) - 1:
                step = step if moved else step / 2
                moved = False
            return step >= self.smallest

        self.stopped_early_ = search(try_one, sys.maxsize, Stop(self.time_limit))
        self.weights_ = weights / weights.sum() if weights.sum() > 0 else weights
        return self

    def predict_proba(self, stack: Stack) -> Probs:
        """Probabilities `[samples, classes]`."""
        return _probs(_mix(check_stack(self._known(stack)), self.weights_))


def _mix(stack: Stack, weights: np.ndarray) -> np.ndarray:
    return np.einsum("m,mnc->nc", weights, stack, dtype=np.float64)


def _probs(total: np.ndarray) -> Probs:
    cut = np.clip(total, FLOOR, None)
    return cut / cut.sum(axis=1, keepdims=True)
