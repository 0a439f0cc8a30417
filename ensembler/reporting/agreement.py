"""Whether cross-fitted scores and a leaderboard put submissions in the same order.

There are never many submissions, so what counts is how little they say. The rank correlation gets
the interval of all true correlations (of a normal copula) under which one like it, or a more
extreme one, comes in more than 2.5 % of draws of so many pairs; over three submissions that is
nearly all of -1 to 1, whatever their order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensembler.blending.judging.intervals import LEVEL, t_quantile

_GRID = np.round(np.linspace(-0.99, 0.99, 67), 4)  # true correlations that are tried
_DRAWS = 4000
_MOST_PERMUTED = 8  # pairs of which every order is looked at
_MOST_SIMULATED = 60  # pairs; of more the correlation's error is as good as normal
_SAME = 1e-9


@dataclass(frozen=True)
class Agreement:
    """How cross-fitted and public scores of `n` submissions agree, in one metric.

    `by_chance` is the share of all orders that would agree as well or better. The difference is
    public less cross-fitted; its interval is that of the mean. `within` counts the public scores
    inside the cross-fitted ones' intervals.
    """

    metric: str
    n: int
    rank_correlation: float | None
    low: float | None
    high: float | None
    by_chance: float | None
    difference: float
    difference_low: float | None
    difference_high: float | None
    within: int

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


@dataclass(frozen=True)
class ScorePair:
    """A submission's cross-fitted score with its interval, and its public score."""

    cross_fitted: float
    public: float
    low: float | None = None
    high: float | None = None

    @property
    def is_within(self) -> bool:
        """Whether the public score lies in the cross-fitted one's interval."""
        if self.low is None or self.high is None:
            return False
        return self.low <= self.public <= self.high


def agreement(metric: str, pairs: Sequence[ScorePair]) -> Agreement | None:
    """How the pairs agree; None without any."""
    if not pairs:
        return None
    ours = np.array([pair.cross_fitted for pair in pairs])
    public = np.array([pair.public for pair in pairs])
    correlation = rank_correlation(ours, public)
    low, high = (None, None) if correlation is None else _interval(correlation, len(pairs))
    differences = public - ours
    mean = float(differences.mean())
    reach = None
    if len(pairs) > 1:
        error = differences.std(ddof=1) / np.sqrt(len(pairs))
        reach = float(error * t_quantile(len(pairs) - 1))
    return Agreement(
        metric,
        len(pairs),
        correlation,
        low,
        high,
        _by_chance(ours, public),
        mean,
        None if reach is None else mean - reach,
        None if reach is None else mean + reach,
        sum(pair.is_within for pair in pairs),
    )


def rank_correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float | None:
    """Spearman's, equal values sharing their ranks; None where all of one side are equal."""
    found = _correlations(_ranks(a)[None], _ranks(b)[None])[0]
    return float(found) if np.isfinite(found) else None


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The ranks of `values` `[..., n]` along the last axis, equal ones sharing theirs."""
    below = (values[..., None, :] < values[..., :, None]).sum(axis=-1)
    equal = (values[..., None, :] == values[..., :, None]).sum(axis=-1)
    return np.asarray(below + (equal - 1) / 2, np.float64)


def _correlations(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    a = a - a.mean(axis=-1, keepdims=True)
    b = b - b.mean(axis=-1, keepdims=True)
    scale = np.sqrt((a**2).sum(axis=-1) * (b**2).sum(axis=-1))
    product = (a * b).sum(axis=-1)
    return np.divide(product, scale, out=np.full_like(product, np.nan), where=scale > 0)


def _interval(correlation: float, n: int) -> tuple[float, float]:
    if n < 3:
        return -1.0, 1.0
    if n > _MOST_SIMULATED:
        error = np.sqrt((1 + correlation**2 / 2) / (n - 3))
        ends = np.tanh(
            np.arctanh(correlation * (1 - 1e-12)) + np.array([-1.96, 1.96]) * error
        )
        return float(ends[0]), float(ends[1])
    drawn = _drawn(n)
    tail = (1 - LEVEL) / 2
    as_high = (drawn >= correlation - _SAME).mean(axis=1)
    as_low = (drawn <= correlation + _SAME).mean(axis=1)
    possible = _GRID[(as_high > tail) & (as_low > tail)]
    if not len(possible):
        return correlation, correlation
    low = -1.0 if possible[0] == _GRID[0] else float(possible[0])
    high = 1.0 if possible[-1] == _GRID[-1] else float(possible[-1])
    return low, high


@lru_cache(maxsize=8)
def _drawn(n: int) -> NDArray[np.float64]:
    """Rank correlations `[true correlations, draws]` of `n` pairs, sorted by nothing."""
    rng = np.random.default_rng(0)
    x, noise = rng.standard_normal((2, _DRAWS, n))
    of_x = _ranks(x)
    found = []
    for true in _GRID:
        y = true * x + np.sqrt(1 - true**2) * noise
        found.append(_correlations(of_x, _ranks(y)))
    return np.array(found)


def _by_chance(a: NDArray[np.float64], b: NDArray[np.float64]) -> float | None:
    """The share of orders of `b` that agree with `a` as well or better, of at most 8 pairs."""
    if not 2 <= len(a) <= _MOST_PERMUTED:
        return None
    ranks = _ranks(b)
    orders = ranks[np.array(list(permutations(range(len(b)))))]
    found = _correlations(_ranks(a)[None], orders)
    own = _correlations(_ranks(a)[None], ranks[None])[0]
    return float((found >= own - _SAME).mean()) if np.isfinite(own) else None
