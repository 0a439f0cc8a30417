"""Several predictions against one on the same rows: how much better each is, and what of it is noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ensembler.blending.judging.gain import DRAWS
from ensembler.blending.judging.intervals import (
    Uncertainty,
    Units,
    joint_quantile,
    joint_quantile_over_seeds,
    of_draws,
    of_means,
    t_quantile,
    variances_of_draws,
    variances_of_means,
)
from ensembler.blending.pool import Stack, Targets
from ensembler.metrics import check_metric, row_losses, score


@dataclass(frozen=True)
class Difference:
    """By how much a prediction is better than the first in `metric` (positive is better), with 95 % intervals.

    `low` and `high` are those of this comparison by itself, `joint_low` and `joint_high` of all
    comparisons at once.
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
    metric: str,
    stacks: Sequence[Stack],
    y: Targets,
    groups: NDArray[np.int64] | None = None,
    *,
    seed: int = 0,
) -> list[Difference]:
    """Compare every prediction with the first one on the same rows, or whole groups when there are any.

    A stack holds the probabilities `[seeds, rows, classes]` of one prediction; with several
    training seeds the mean of their scores is compared, and what differs between seeds is added, as
    uncertain as so few seeds leave it. The joint intervals reach as far as the largest of all
    differences, each in its own standard errors, may lie from its truth (Westfall and Young, 1993).
    """
    n_seeds = {len(stack) for stack in stacks}
    if len(n_seeds) != 1:
        raise ValueError(f"predictions with {sorted(n_seeds)} seeds cannot be paired")
    rng = np.random.default_rng(seed)
    by_seed, over_rows, chance = _gains(metric, stacks, y, Units.of(len(y), groups), rng)
    if not len(by_seed):
        return []
    over_seeds = over_seeds_jointly = np.zeros(len(by_seed))
    alone_over_seeds = jointly_over_seeds = 0.0
    if by_seed.shape[1] > 1:
        over_seeds = over_seeds_jointly = _between_seeds(by_seed, chance)
        if by_seed.shape[1] == 2:
            # Of several differences between two seeds one is often near nothing by chance: nothing
            # is taken from it.
            over_seeds_jointly = _between_seeds(by_seed, np.zeros(len(chance)))
        alone_over_seeds = t_quantile(by_seed.shape[1] - 1)
        jointly_over_seeds = joint_quantile_over_seeds(by_seed.shape[0], by_seed.shape[1])
    jointly_over_rows = joint_quantile(over_rows.correlation, over_rows.freedom, rng)
    alone = _reach(over_rows.errors, t_quantile(over_rows.freedom), over_seeds, alone_over_seeds)
    jointly = _reach(over_rows.errors, jointly_over_rows, over_seeds_jointly, jointly_over_seeds)
    values = by_seed.mean(axis=1)
    columns = (values, np.hypot(over_rows.errors, over_seeds))
    ends = (values - alone, values + alone, values - jointly, values + jointly)
    return [Difference(metric, *map(float, row)) for row in zip(*columns, *ends, strict=True)]


def _between_seeds(
    by_seed: NDArray[np.float64], chance: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The errors `[predictions - 1]` that the choice of seeds adds to the means over them.

    Scores of seeds differ by `chance` in the rows, too, which the errors over rows count already.
    It is taken out as far as so few seeds can tell it from the rest: by half for two.
    """
    n_seeds = by_seed.shape[1]
    variance = by_seed.var(axis=1, ddof=1) - chance * (n_seeds - 1) / n_seeds
    return np.sqrt(np.clip(variance, 0, None) / n_seeds)


def _reach(
    rows: NDArray[np.float64], of_rows: float, seeds: NDArray[np.float64], of_seeds: float
) -> NDArray[np.float64]:
    """How far intervals reach, of two independent errors of which each has a quantile of its own."""
    if not np.isfinite(of_rows):
        return np.full(len(rows), np.inf)
    return np.hypot(rows * of_rows, seeds * of_seeds)


def _gains(
    metric: str, stacks: Sequence[Stack], y: Targets, units: Units, rng: np.random.Generator
) -> tuple[NDArray[np.float64], Uncertainty, NDArray[np.float64]]:
    """The gains `[predictions - 1, seeds]` over the first, and the uncertainty of their means over seeds.

    The third is the variance `[predictions - 1]` of one seed's gain by what rows add to it in that
    seed alone. Every draw takes the same rows for all predictions, so that what they have in common
    cancels.
    """
    losses = [[row_losses(metric, probs, y) for probs in stack] for stack in stacks]
    if all(found is not None for stack in losses for found in stack):
        table = np.array(losses, np.float64)  # [predictions, seeds, rows]
        gains = table[:1] - table[1:]
        means = gains.mean(axis=1)
        residuals = (gains - means[:, None]).reshape(-1, len(y))
        chance = variances_of_means(residuals, units).reshape(gains.shape[:2])
        return gains.mean(axis=2), of_means(means, units), _of_one_seed(chance)
    sign = 1 if check_metric(metric).greater_is_better else -1

    def gains_on(rows: NDArray[np.int64]) -> NDArray[np.float64]:
        scores = np.array(
            [[sign * score(metric, probs[rows], y[rows]) for probs in stack] for stack in stacks]
        )
        return scores[1:] - scores[:1]

    by_seed = gains_on(np.arange(len(y)))
    found = [gains_on(rows) for rows in units.drawn(rng, DRAWS)]
    draws = np.array([gains for gains in found if np.isfinite(gains).all()]).reshape(
        -1, *by_seed.shape
    )
    drawn_means = draws.mean(axis=2)
    chance = variances_of_draws(draws - drawn_means[:, :, None], units)
    return by_seed, of_draws(drawn_means, units), _of_one_seed(chance)


def _of_one_seed(of_residuals: NDArray[np.float64]) -> NDArray[np.float64]:
    """The variance of single seeds, from that of their residuals `[values, seeds]` from the mean over seeds."""
    n_seeds = of_residuals.shape[1]
    return np.asarray(of_residuals.mean(axis=1) * n_seeds / max(n_seeds - 1, 1))
