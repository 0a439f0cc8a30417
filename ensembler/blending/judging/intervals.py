"""How far a figure may be from the truth: errors over few independent units, and t quantiles.

A unit is a row, or a whole group of rows. Over few units the plain error is too small, and two of
it are too few: the error is corrected for what each unit takes of the mean (CR2; Bell and
McCaffrey, 2002), and the quantile is that of a t distribution with the degrees of freedom that the
sizes of the units leave.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95
_SIMULATED = 10_000  # draws for a quantile of the largest of several deviations
_MANY = 60  # units from which the largest of several deviations is as good as that of normal ones
# degrees of freedom from which t is normal to 0.15 %, and scipy need not be loaded for it
_NORMAL = 1000.0


@dataclass(frozen=True)
class Uncertainty:
    """Standard errors `[values]`, their correlation `[values, values]`, and degrees of freedom."""

    errors: NDArray[np.float64]
    correlation: NDArray[np.float64]
    freedom: float


@dataclass(frozen=True)
class Units:
    """The independent units of so many rows: each row's unit `[rows]`, and the units' sizes."""

    of_row: NDArray[np.int64]
    sizes: NDArray[np.float64]

    @classmethod
    def of(cls, n_rows: int, groups: NDArray[np.int64] | None) -> Units:
        """Single rows, or whole groups when there are any."""
        if groups is None:
            return cls(np.arange(n_rows), np.ones(n_rows))
        index = np.unique(groups, return_inverse=True)[1]
        return cls(index, np.bincount(index).astype(np.float64))

    @property
    def shares(self) -> NDArray[np.float64]:
        """Which share of the rows each unit has."""
        return self.sizes / self.sizes.sum()

    @property
    def freedom(self) -> float:
        """Degrees of freedom of a mean's corrected variance.

        One less than their number for units of equal size.
        """
        if len(self.sizes) < 2:
            return 0.0
        sizes, shares = self.sizes, self.shares
        adjusted = sizes * shares / (1 - shares)
        crossed = adjusted.sum() ** 2 - (adjusted**2).sum()
        return float(self.sizes.sum() ** 2 / ((sizes**2).sum() + crossed))

    def drawn(
        self, rng: np.random.Generator, n_draws: int, n_units: int | None = None
    ) -> Iterator[NDArray[np.int64]]:
        """The rows of each bootstrap draw, whole units together.

        As many units are drawn as there are, or `n_units`.
        """
        n = len(self.sizes)
        size = n if n_units is None else n_units
        order = np.argsort(self.of_row, kind="stable")
        if n == len(order):
            for _ in range(n_draws):
                yield order[rng.integers(0, n, size)]
            return
        rows = np.split(order, np.cumsum(self.sizes.astype(np.int64))[:-1])
        for _ in range(n_draws):
            units = rng.integers(0, n, size)
            yield np.concatenate([rows[unit] for unit in units])

    def counts_drawn(
        self, rng: np.random.Generator, n_draws: int
    ) -> Iterator[NDArray[np.int64]]:
        """How often each unit `[units]` comes in each bootstrap draw."""
        n = len(self.sizes)
        for _ in range(n_draws):
            yield np.bincount(rng.integers(0, n, n), minlength=n)

    def sums(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """The sum over each unit's rows of `values` `[values, rows]`: `[values, units]`."""
        n = len(self.sizes)
        return np.stack(
            [np.bincount(self.of_row, weights=row, minlength=n) for row in values]
        )


def of_means(values: NDArray[np.float64], units: Units) -> Uncertainty:
    """The uncertainty of the means of `values` `[values, rows]`."""
    if len(units.sizes) < 2:
        return _unknown(len(values))
    centred = values - values.mean(axis=1, keepdims=True)
    adjusted = units.sums(centred) / np.sqrt(1 - units.shares)
    covariance = np.asarray(adjusted @ adjusted.T / len(units.of_row) ** 2, np.float64)
    return _of_covariance(covariance, units.freedom)


def variances_of_means(values: NDArray[np.float64], units: Units) -> NDArray[np.float64]:
    """The squared standard errors of the means of `values` `[values, rows]`, one by one."""
    if len(units.sizes) < 2:
        return np.full(len(values), np.inf)
    centred = values - values.mean(axis=1, keepdims=True)
    scale = (1 - units.shares) * len(units.of_row) ** 2
    return np.asarray((units.sums(centred) ** 2 / scale).sum(axis=1))


def variances_of_draws(draws: NDArray[np.float64], units: Units) -> NDArray[np.float64]:
    """The same of values of which bootstrap `draws` `[draws, ...]` were taken."""
    if len(units.sizes) < 2 or len(draws) < 2:
        return np.full(draws.shape[1:], np.inf)
    return np.asarray(draws.var(axis=0, ddof=1) / (1 - (units.shares**2).sum()))


def of_draws(draws: NDArray[np.float64], units: Units) -> Uncertainty:
    """The uncertainty of values, from bootstrap `draws` `[draws, values]` over the units."""
    if len(units.sizes) < 2 or len(draws) < 2:
        return _unknown(draws.shape[1])
    # A bootstrap of G units of equal size finds (G - 1) / G of the variance.
    covariance = np.atleast_2d(np.cov(draws, rowvar=False)) / (1 - (units.shares**2).sum())
    return _of_covariance(covariance, units.freedom)


def _of_covariance(covariance: NDArray[np.float64], freedom: float) -> Uncertainty:
    errors = np.sqrt(np.diag(covariance))
    scale = np.where(errors > 0, errors, 1.0)
    correlation = covariance / np.outer(scale, scale)
    np.fill_diagonal(correlation, 1.0)
    return Uncertainty(errors, correlation, freedom)


def _unknown(n_values: int) -> Uncertainty:
    """One unit alone tells nothing of what others would say."""
    return Uncertainty(np.full(n_values, np.inf), np.eye(n_values), 0.0)


def t_quantile(freedom: float, level: float = LEVEL) -> float:
    """How many standard errors a two-sided interval reaches.

    Infinite without a degree of freedom.
    """
    if freedom <= 0:
        return np.inf
    share = (1 + level) / 2
    if freedom >= _NORMAL:
        return NormalDist().inv_cdf(share)
    from scipy.special import stdtrit

    return float(stdtrit(freedom, share))


def joint_quantile(
    correlation: NDArray[np.float64], freedom: float, rng: np.random.Generator
) -> float:
    """How many standard errors all intervals at once must reach, for the largest deviation."""
    alone = t_quantile(freedom)
    if len(correlation) < 2 or not np.isfinite(alone):
        return alone
    root = np.linalg.eigh(correlation)
    factor = root.eigenvectors * np.sqrt(np.clip(root.eigenvalues, 0, None))
    n_units = round(freedom) + 1
    if n_units >= _MANY:
        largest = np.abs(rng.standard_normal((_SIMULATED, len(factor))) @ factor.T).max(
            axis=1
        )
    else:
        # Samples as small as this one, in which every value has an error of its own.
        samples = rng.standard_normal((_SIMULATED // 4, n_units, len(factor))) @ factor.T
        errors = samples.std(axis=1, ddof=1) / np.sqrt(n_units)
        largest = np.abs(samples.mean(axis=1) / errors).max(axis=1)
    return max(alone, float(np.quantile(largest, LEVEL)))


@lru_cache(maxsize=64)
def joint_quantile_over_seeds(n_values: int, n_seeds: int) -> float:
    """The same for differences from one prediction, each with its own error between seeds."""
    alone = t_quantile(n_seeds - 1)
    if n_values < 2:
        return alone
    scores = np.random.default_rng(0).standard_normal((_SIMULATED, n_values + 1, n_seeds))
    differences = scores[:, 1:] - scores[:, :1]
    errors = differences.std(axis=2, ddof=1) / np.sqrt(n_seeds)
    largest = (np.abs(differences.mean(axis=2)) / errors).max(axis=1)
    return max(alone, float(np.quantile(largest, LEVEL)))
