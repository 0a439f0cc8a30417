"""How much better one prediction is than another, and whether that is more than noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensembler.blending.pool import Probs, Targets
from ensembler.metrics import check_metric, multi_label, score
from ensembler.metrics.probabilities import FLOOR

DRAWS = 500
SLOW_DRAWS = 100  # for metrics that are no mean over rows and must be computed on every draw


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
        """Whether the gain is more than two standard errors."""
        return self.value > 2 * self.standard_error and self.value > 0

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {**self.__dict__, "beyond_noise": self.beyond_noise}


def row_losses(metric: str, probs: Probs, y: Targets) -> NDArray[np.float64] | None:
    """The loss of each row when the metric is a mean over rows (lower is better), else None."""
    if y.ndim == 2:
        return multi_label.row_losses(metric, probs, y)
    true_class = probs[np.arange(len(y)), y].astype(np.float64)
    if metric == "log_loss":
        return -np.log(np.clip(true_class, FLOOR, None))
    if metric == "accuracy":
        return (probs.argmax(axis=1) != y).astype(np.float64)
    if metric == "brier":
        return np.einsum("nc,nc->n", probs, probs, dtype=np.float64) - 2 * true_class + 1
    return None


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
    """The gain of `probs` over `baseline` `[rows, classes]` on the same rows, by a paired bootstrap.

    Rows are drawn, or whole groups when there are any.
    """
    rng = np.random.default_rng(seed)
    ours, theirs = row_losses(metric, probs, y), row_losses(metric, baseline, y)
    if ours is not None and theirs is not None:
        value = float((theirs - ours).mean())
        draws = _mean_draws(theirs - ours, groups, rng)
    else:
        sign = 1 if check_metric(metric).greater_is_better else -1
        value = sign * (score(metric, probs, y) - score(metric, baseline, y))
        draws = sign * _metric_draws(metric, probs, baseline, y, groups, rng)
    draws = draws[np.isfinite(draws)]
    if not len(draws):
        draws = np.array([value])
    low, high = np.quantile(draws, [0.025, 0.975])
    return Gain(over, metric, value, float(low), float(high), float(draws.std()))


def _mean_draws(
    differences: NDArray[np.float64], groups: NDArray[np.int64] | None, rng: np.random.Generator
) -> NDArray[np.float64]:
    sums: NDArray[np.float64] = differences
    sizes: NDArray[np.float64] = np.ones(len(differences))
    if groups is not None:
        index = np.unique(groups, return_inverse=True)[1]
        sums, sizes = np.zeros(index.max() + 1), np.zeros(index.max() + 1)
        np.add.at(sums, index, differences)
        np.add.at(sizes, index, 1)
    draws = np.empty(DRAWS)
    for i in range(DRAWS):
        drawn = rng.integers(0, len(sums), len(sums))
        draws[i] = sums[drawn].sum() / sizes[drawn].sum()
    return draws


def _metric_draws(
    metric: str,
    probs: Probs,
    baseline: Probs,
    y: Targets,
    groups: NDArray[np.int64] | None,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    members = None
    if groups is not None:
        index = np.unique(groups, return_inverse=True)[1]
        members = np.split(np.argsort(index, kind="stable"), np.cumsum(np.bincount(index))[:-1])
    draws = np.empty(SLOW_DRAWS)
    for i in range(SLOW_DRAWS):
        if members is None:
            rows = rng.integers(0, len(y), len(y))
        else:
            rows = np.concatenate([members[g] for g in rng.integers(0, len(members), len(members))])
        draws[i] = score(metric, probs[rows], y[rows]) - score(metric, baseline[rows], y[rows])
    return draws
