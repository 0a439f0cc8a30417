"""Shares of rows with their 95 % intervals, of many classes at once.

A share counts hits among trials: of the rows of a class those that are found, or of the rows it is
given to those that are right. Few trials leave no room for a normal error, and a share of 0 or 1
has none, so the interval is Wilson's (1927). Where rows come in groups, it is that of as many rows
as the groups are worth, with the t quantile of so few of them (Korn and Graubard, 1998).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ensembler.blending.judging.intervals import t_quantile

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Shares:
    """Shares `[classes]` and their intervals; NaN where there is nothing to take a share of."""

    value: Values
    low: Values
    high: Values

    def as_f1(self) -> Shares:
        """The F1 of shares of hits among hits, misses and false alarms, which rises with them."""
        return Shares(*(2 * s / (1 + s) for s in (self.value, self.low, self.high)))


def share_intervals(hits: Values, trials: Values) -> Shares:
    """The shares of `hits` among independent `trials` `[classes]`."""
    reach = np.full(len(trials), t_quantile(np.inf))
    value = _share(hits, trials)
    return Shares(value, *_wilson(value, trials, reach))


def share_intervals_of_groups(hits: Values, trials: Values) -> Shares:
    """The shares of `hits` among `trials`, counted by group `[groups, classes]`."""
    n_trials = trials.sum(axis=0)
    value = _share(hits.sum(axis=0), n_trials)
    n_groups = (trials > 0).sum(axis=0)
    reach = np.array([t_quantile(float(n - 1)) for n in n_groups])
    worth = _worth(hits, trials, value)
    low, high = _wilson(value, worth, np.where(np.isfinite(reach), reach, 0))
    tells_nothing = n_groups == 1
    return Shares(value, np.where(tells_nothing, 0, low), np.where(tells_nothing, 1, high))


def _share(hits: Values, trials: Values) -> Values:
    return np.where(trials > 0, hits / np.maximum(trials, 1), np.nan)


def _worth(hits: Values, trials: Values, value: Values) -> Values:
    """As many independent rows `[classes]` would leave the same variance.

    Never more than there are. A share of 0 or 1 does not vary: it is worth its groups.
    """
    n_trials, n_groups = trials.sum(axis=0), (trials > 0).sum(axis=0)
    apart = np.square(hits - np.nan_to_num(value) * trials).sum(axis=0)
    correction = n_groups / np.maximum(n_groups - 1, 1)
    variance = correction * apart / np.maximum(n_trials, 1) ** 2
    of_one_row = np.nan_to_num(value * (1 - value))
    varies = (variance > 0) & (of_one_row > 0)
    worth = np.where(varies, of_one_row / np.where(varies, variance, 1), n_groups)
    return np.minimum(worth, n_trials)


def _wilson(value: Values, n: Values, reach: Values) -> tuple[Values, Values]:
    """The ends of Wilson's interval of shares of `n` trials, `reach` standard errors away."""
    square = reach**2 / np.maximum(n, 1)
    middle = (value + square / 2) / (1 + square)
    half = np.sqrt(square * (value * (1 - value) + square / 4)) / (1 + square)
    return np.clip(middle - half, 0, 1), np.clip(middle + half, 0, 1)
