"""How much better one prediction is than another, and whether that is more than noise."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensembler.blending.judging.intervals import Units, of_draws, of_means, t_quantile
from ensembler.blending.pool import Probs, Targets
from ensembler.metrics import check_metric, row_losses, score

DRAWS = 300  # of metrics that are no mean over rows and must be computed on every draw


@dataclass(frozen=True)
class Gain:
    """By how much `metric` is better than that of `over` (positive is better), with a 95 % interval."""

    over: str
    metric: str
    value: float
    low: float
    high: float
    standard_error: float

    @property
    def beyond_noise(self) -> bool:
        """Whether the whole interval is above zero."""
        return self.low > 0

    def less(self, flattery: float) -> Gain:
        """The gain without what the choice of the prediction flatters it by.

        How much that is is an estimate itself: the interval reaches down to where the gain may lie
        with it taken off, and stays as high as it was without.
        """
        return replace(self, value=self.value - flattery, low=self.low - flattery)

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {**self.__dict__, "beyond_noise": self.beyond_noise}


def paired_gain(
    metric: str,
    probs: Probs,
    over: str,
    baseline: Probs,
    y: Targets,
    groups: NDArray[np.int64] | None = None,
    *,
    seed: int = 0,
) -> Gain:
    """The gain of `probs` over `baseline` `[rows, classes]` on the same rows, and its interval.

    Rows are independent, or whole groups when there are any. A metric that is no mean over rows is
    computed on bootstrap draws of both.
    """
    units = Units.of(len(y), groups)
    ours, theirs = row_losses(metric, probs, y), row_losses(metric, baseline, y)
    if ours is not None and theirs is not None:
        value = float((theirs - ours).mean())
        uncertainty = of_means((theirs - ours)[None], units)
    else:
        sign = 1 if check_metric(metric).greater_is_better else -1

        def gain_on(rows: NDArray[np.int64] | slice) -> float:
            return sign * (
                score(metric, probs[rows], y[rows]) - score(metric, baseline[rows], y[rows])
            )

        value = gain_on(slice(None))
        draws = np.array(
            [gain_on(rows) for rows in units.drawn(np.random.default_rng(seed), DRAWS)]
        )
        uncertainty = of_draws(draws[np.isfinite(draws), None], units)
    error = float(uncertainty.errors[0])
    reach = error * t_quantile(uncertainty.freedom) if np.isfinite(error) else np.inf
    return Gain(over, metric, value, value - reach, value + reach, error)
