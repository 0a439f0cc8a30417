"""Several predictions against one on the same rows: how much better each is, and what of it is noise."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ensembler.blending.gain import row_losses
from ensembler.blending.pool import Stack, Targets
from ensembler.metrics import check_metric, score

DRAWS = 1000
SLOW_DRAWS = 300  # for metrics that are no mean over rows and must be computed on every draw


@dataclass(frozen=True)
class Difference:
    """By how much a prediction is better than the first in `metric` (positive is better), with 95 % intervals.

    `low` and `high` are those of this comparison by itself, `joint_low` and `joint_high` of all comparisons at once.
    """

    metric: str
    value: float
    standard_error: float
    low: float
    high: float
    joint_low: float
    joint_high: float

    @property
    def verdict(self) -> Literal["better", "worse", "noise"]:
        """What can be said when every comparison counts: a difference whose joint interval holds zero is noise."""
        return "better" if self.joint_low > 0 else "worse" if self.joint_high < 0 else "noise"

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {**self.__dict__, "verdict": self.verdict}


def compare_with_first(
    metric: str, stacks: Sequence[Stack], y: Targets, groups: NDArray[np.int64] | None = None, *, seed: int = 0
) -> list[Difference]:
    """Compare every prediction with the first one by a paired bootstrap over rows, or whole groups when there are any.

    A stack holds the probabilities `[seeds, rows, classes]` of one prediction; with several training seeds the mean of
    their scores is compared, and the variance of the differences between seeds is added. The joint intervals are as
    wide as the largest of all differences, each in its own standard errors, needs (Westfall and Young, 1993).
    """
    n_seeds = {len(stack) for stack in stacks}
    if len(n_seeds) != 1:
        raise ValueError(f"predictions with {sorted(n_seeds)} seeds cannot be paired")
    by_seed, draws = _gains(metric, stacks, y, groups, np.random.default_rng(seed))
    values = by_seed.mean(axis=1)
    variance = draws.var(axis=0)
    if by_seed.shape[1] > 1:
        variance = variance + by_seed.var(axis=1, ddof=1) / by_seed.shape[1]
    errors = np.sqrt(variance)
    spread = np.where(draws.std(axis=0) > 0, draws.std(axis=0), 1.0)
    extremes = np.abs((draws - draws.mean(axis=0)) / spread)
    alone = np.quantile(extremes, 0.95, axis=0)
    jointly = float(np.quantile(extremes.max(axis=1), 0.95)) if len(values) else 0.0
    return [
        Difference(
            metric,
            float(value),
            float(error),
            float(value - width * error),
            float(value + width * error),
            float(value - jointly * error),
            float(value + jointly * error),
        )
        for value, error, width in zip(values, errors, alone, strict=True)
    ]


def _gains(
    metric: str, stacks: Sequence[Stack], y: Targets, groups: NDArray[np.int64] | None, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The gains `[predictions - 1, seeds]` over the first, and those of bootstrap draws `[draws, predictions - 1]`.

    Every draw takes the same rows for all predictions, so that what they have in common cancels.
    """
    losses = [[row_losses(metric, probs, y) for probs in stack] for stack in stacks]
    if all(found is not None for stack in losses for found in stack):
        table = np.array(losses, np.float64)  # [predictions, seeds, rows]
        gains = table[:1] - table[1:]
        rows = _drawn(len(y), groups, rng, DRAWS)
        mean_gains = gains.mean(axis=1)
        return gains.mean(axis=2), np.array([mean_gains[:, drawn].mean(axis=1) for drawn in rows])
    sign = 1 if check_metric(metric).greater_is_better else -1

    def gains_on(rows: NDArray[np.int64]) -> NDArray[np.float64]:
        scores = np.array([[sign * score(metric, probs[rows], y[rows]) for probs in stack] for stack in stacks])
        return scores[1:] - scores[:1]

    found = [gains_on(rows).mean(axis=1) for rows in _drawn(len(y), groups, rng, SLOW_DRAWS)]
    draws = np.array([gains for gains in found if np.isfinite(gains).all()]).reshape(-1, len(stacks) - 1)
    by_seed = gains_on(np.arange(len(y)))
    return by_seed, draws if len(draws) else by_seed.mean(axis=1)[None]


def _drawn(
    n_rows: int, groups: NDArray[np.int64] | None, rng: np.random.Generator, n_draws: int
) -> Iterator[NDArray[np.int64]]:
    """Rows of each bootstrap draw, whole groups together."""
    if groups is None:
        for _ in range(n_draws):
            yield rng.integers(0, n_rows, n_rows)
        return
    order = np.argsort(groups, kind="stable")
    members = np.split(order, np.flatnonzero(np.diff(groups[order])) + 1)
    for _ in range(n_draws):
        yield np.concatenate([members[g] for g in rng.integers(0, len(members), len(members))])
