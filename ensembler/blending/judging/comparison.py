"""How much better predictions are than another one on the same rows, and what of it is noise.

There is one rule: differences are paired by row, or by whole group where there are groups, they get
a 95 % interval, and a difference whose interval holds zero is noise. Of several comparisons at once
it is the joint interval that counts; of one alone both are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

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
from ensembler.blending.pool import Probs, Stack, Targets
from ensembler.metrics import check_metric, row_losses, score

DRAWS = 300  # of metrics that are no mean over rows and must be computed on every draw


@dataclass(frozen=True)
class Difference:
    """By how much a prediction is better than the first in `metric`, with 95 % intervals.

    Positive is better. `low` and `high` are those of this comparison by itself, `joint_low` and
    `joint_high` of all comparisons at once.
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
        """What the joint interval says: a difference whose interval holds zero is noise."""
        if self.joint_low > 0:
            return "better"
        if self.joint_high < 0:
            return "worse"
        return "noise"

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {**self._figures(), "verdict": self.verdict}

    def _figures(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True)
class Gain(Difference):
    """The difference from the one prediction called `over`."""

    over: str = ""

    @property
    def beyond_noise(self) -> bool:
        """Whether it is better, and that is more than noise."""
        return self.verdict == "better"

    def less(self, optimism: float) -> Gain:
        """The gain without what the choice of the prediction adds to it by chance.

        How much that is is an estimate itself: the interval reaches down to where the gain may be
        with it taken off, and stays as high as it was without.
        """
        low, joint_low = self.low - optimism, self.joint_low - optimism
        return replace(self, value=self.value - optimism, low=low, joint_low=joint_low)

    def to_json(self) -> dict[str, Any]:
        """As plain values; of one comparison the joint interval is no other."""
        keys = ("over", "metric", "value", "low", "high", "standard_error", "beyond_noise")
        return {key: getattr(self, key) for key in keys}


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
    stacks = [baseline[None], probs[None]]
    (found,) = compare_with_first(metric, stacks, y, groups, seed=seed)
    return Gain(**found._figures(), over=over)


def compare_with_first(
    metric: str,
    stacks: Sequence[Stack],
    y: Targets,
    groups: NDArray[np.int64] | None = None,
    *,
    seed: int = 0,
) -> list[Difference]:
    """Compare every prediction with the first one on the same rows.

    Whole groups are independent when there are any, else rows. A stack holds the probabilities
    `[seeds, rows, classes]` of one prediction; with several training seeds the mean of their scores
    is compared, and what differs between seeds is added, as uncertain as so few seeds leave it. The
    joint intervals reach as far as the largest of all differences, each in its own standard errors,
    may be from its truth (Westfall and Young, 1993).
    """
    n_seeds = {len(stack) for stack in stacks}
    if len(n_seeds) != 1:
        raise ValueError(f"predictions with {sorted(n_seeds)} seeds cannot be paired")
    if len(stacks) < 2:
        return []
    rng = np.random.default_rng(seed)
    gains = _gains(metric, stacks, y, Units.of(len(y), groups), rng)
    rows, seeds = gains.over_rows, _between_seeds(gains)
    jointly_over_rows = joint_quantile(rows.correlation, rows.freedom, rng)
    alone = _reach(rows.errors, t_quantile(rows.freedom), seeds.alone, seeds.quantile)
    jointly = _reach(rows.errors, jointly_over_rows, seeds.jointly, seeds.joint_quantile)
    values = gains.by_seed.mean(axis=1)
    errors = np.hypot(rows.errors, seeds.alone)
    ends = (values - alone, values + alone, values - jointly, values + jointly)
    columns = zip(values, errors, *ends, strict=True)
    return [Difference(metric, *map(float, row)) for row in columns]


@dataclass(frozen=True)
class _Gains:
    """The gains `[predictions - 1, seeds]` over the first, and how sure their means over seeds are.

    `chance` is the variance `[predictions - 1]` of one seed's gain by what rows add to it in that
    seed alone.
    """

    by_seed: NDArray[np.float64]
    over_rows: Uncertainty
    chance: NDArray[np.float64]


@dataclass(frozen=True)
class _SeedErrors:
    """The errors `[predictions - 1]` that seeds add to means, and their quantiles."""

    alone: NDArray[np.float64]
    jointly: NDArray[np.float64]
    quantile: float
    joint_quantile: float


def _between_seeds(gains: _Gains) -> _SeedErrors:
    n_predictions, n_seeds = gains.by_seed.shape
    if n_seeds == 1:
        none = np.zeros(n_predictions)
        return _SeedErrors(none, none, 0.0, 0.0)
    alone = jointly = _seed_errors(gains.by_seed, gains.chance)
    if n_seeds == 2:
        # Of several differences between two seeds one is often near nothing by chance: nothing
        # is taken from it.
        jointly = _seed_errors(gains.by_seed, np.zeros(n_predictions))
    joint = joint_quantile_over_seeds(n_predictions, n_seeds)
    return _SeedErrors(alone, jointly, t_quantile(n_seeds - 1), joint)


def _seed_errors(
    by_seed: NDArray[np.float64], chance: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The errors of means over seeds, without the `chance` that the errors over rows count already.

    It is taken out as far as so few seeds can tell it from the rest: by half for two.
    """
    n_seeds = by_seed.shape[1]
    variance = by_seed.var(axis=1, ddof=1) - chance * (n_seeds - 1) / n_seeds
    return np.asarray(np.sqrt(np.clip(variance, 0, None) / n_seeds))


def _reach(
    rows: NDArray[np.float64], of_rows: float, seeds: NDArray[np.float64], of_seeds: float
) -> NDArray[np.float64]:
    """How far intervals reach, of two independent errors with a quantile each."""
    if not np.isfinite(of_rows):
        return np.full(len(rows), np.inf)
    return np.hypot(rows * of_rows, seeds * of_seeds)


def _gains(
    metric: str, stacks: Sequence[Stack], y: Targets, units: Units, rng: np.random.Generator
) -> _Gains:
    """The gains over the first prediction, and how they vary over rows.

    Every draw takes the same rows for all predictions, so that what they have in common cancels.
    """
    losses = _row_losses(metric, stacks, y)
    if losses is not None:
        return _gains_of_means(losses[:1] - losses[1:], units)
    sign = check_metric(metric).sign

    def gains_on(rows: NDArray[np.int64]) -> NDArray[np.float64]:
        labels = y[rows]
        scores = [_scores(metric, stack[:, rows], labels) for stack in stacks]
        return sign * (np.array(scores[1:]) - np.array(scores[0]))

    by_seed = gains_on(np.arange(len(y))).reshape(len(stacks) - 1, len(stacks[0]))
    return _gains_of_draws(by_seed, gains_on, units, rng)


def _scores(metric: str, stack: Stack, y: Targets) -> list[float]:
    return [score(metric, probs, y) for probs in stack]


def _row_losses(
    metric: str, stacks: Sequence[Stack], y: Targets
) -> NDArray[np.float64] | None:
    """The losses `[predictions, seeds, rows]`; None of a metric that is no mean over rows."""
    table = []
    for stack in stacks:
        losses = [row_losses(metric, probs, y) for probs in stack]
        known = [of_seed for of_seed in losses if of_seed is not None]
        if len(known) < len(losses):
            return None
        table.append(known)
    return np.array(table, np.float64)


def _gains_of_means(gains: NDArray[np.float64], units: Units) -> _Gains:
    """Of gains `[predictions - 1, seeds, rows]` whose means over rows are the gains."""
    means = gains.mean(axis=1)
    residuals = gains - means[:, None]
    variances = variances_of_means(residuals.reshape(-1, gains.shape[2]), units)
    chance = _of_one_seed(variances.reshape(gains.shape[:2]))
    return _Gains(gains.mean(axis=2), of_means(means, units), chance)


def _gains_of_draws(
    by_seed: NDArray[np.float64],
    gains_on: Callable[[NDArray[np.int64]], NDArray[np.float64]],
    units: Units,
    rng: np.random.Generator,
) -> _Gains:
    """Of gains that have to be computed anew on every bootstrap draw of rows."""
    drawn = [gains_on(rows) for rows in units.drawn(rng, DRAWS)]
    finite = [gains for gains in drawn if np.isfinite(gains).all()]
    draws = np.array(finite).reshape(-1, *by_seed.shape)
    means = draws.mean(axis=2)
    chance = _of_one_seed(variances_of_draws(draws - means[:, :, None], units))
    return _Gains(by_seed, of_draws(means, units), chance)


def _of_one_seed(of_residuals: NDArray[np.float64]) -> NDArray[np.float64]:
    """The variance of single seeds, from that of their residuals `[values, seeds]`."""
    n_seeds = of_residuals.shape[1]
    return np.asarray(of_residuals.mean(axis=1) * n_seeds / max(n_seeds - 1, 1))
