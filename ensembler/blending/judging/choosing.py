"""Choosing among candidates by cross-fitted scores, and how optimistic that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ensembler.blending.judging.intervals import Units
from ensembler.blending.pool import Probs, Targets
from ensembler.metrics import check_metric, row_losses, score

DRAWS = 200
SLOW_DRAWS = 60  # for metrics that are no mean over rows and must be computed on every draw
SLOW_ROWS = (
    4000  # rows, or groups, of such a draw: what it deviates by is scaled to all of them
)


@dataclass(frozen=True)
class Contest:
    """Candidates on the same rows, as losses: a metric of which more is better counts negative.

    `losses` `[candidates]` are those on all rows, `drawn` `[draws, candidates]` those of a
    bootstrap, and `errors` `[candidates, candidates]` the standard errors of the difference of two.
    """

    losses: NDArray[np.float64]
    drawn: NDArray[np.float64]
    errors: NDArray[np.float64]

    @classmethod
    def of(
        cls,
        metric: str,
        predictions: Sequence[Probs],
        y: Targets,
        groups: NDArray[np.int64] | None,
        seed: int,
    ) -> Contest:
        """The contest of cross-fitted predictions by any metric; groups are drawn whole."""
        units = Units.of(len(y), groups)
        rng = np.random.default_rng(seed)
        tables = [row_losses(metric, probs, y) for probs in predictions]
        known = [table for table in tables if table is not None]
        if len(known) == len(tables):
            return cls._of_means(np.stack(known), units, rng)
        return cls._of_scores(metric, predictions, y, units, rng)

    @classmethod
    def _of_means(
        cls, table: NDArray[np.float64], units: Units, rng: np.random.Generator
    ) -> Contest:
        """Of losses of rows `[candidates, rows]`, whose means are the candidates' losses."""
        losses = table.mean(axis=1)
        sums = units.sums(table)
        draws = units.counts_drawn(rng, DRAWS)
        drawn = np.stack([sums @ counts / (units.sizes @ counts) for counts in draws])
        return cls(losses, drawn, _errors_of_differences(losses, sums, units.sizes))

    @classmethod
    def _of_scores(
        cls,
        metric: str,
        predictions: Sequence[Probs],
        y: Targets,
        units: Units,
        rng: np.random.Generator,
    ) -> Contest:
        """Of scores that have to be computed on every draw, of at most so many units."""
        sign = -check_metric(metric).sign
        losses = np.array([sign * score(metric, probs, y) for probs in predictions])
        n = len(units.sizes)
        size = min(n, SLOW_ROWS)
        found = []
        for rows in units.drawn(rng, SLOW_DRAWS, size):
            labels = y[rows]
            found.append(
                [sign * score(metric, probs[rows], labels) for probs in predictions]
            )
        drawn = np.array(found)
        drawn = drawn[np.isfinite(drawn).all(axis=1)]
        if not len(drawn):
            drawn = losses[None]
        drawn = losses + (drawn - losses) * np.sqrt(size / n)
        differences = drawn[:, :, None] - drawn[:, None, :]
        return cls(losses, drawn, differences.std(axis=0))

    def first_near_best(
        self, times: float, losses: NDArray[np.float64] | None = None
    ) -> int:
        """The first candidate within `times` standard errors of the best.

        `losses` replaces the candidates' own losses.
        """
        given = self.losses if losses is None else losses
        known = np.nan_to_num(given, nan=np.inf)
        best = int(known.argmin())
        is_near = known - known[best] <= times * self.errors[:, best]
        is_near[best] = True
        return int(np.flatnonzero(is_near)[0])

    def optimism(self, times: float) -> float:
        """By how much the chosen one's loss looks too small because it was chosen (Efron).

        On every draw of the bootstrap the rule chooses anew; what it takes is worse on all rows
        than on those drawn. The same draw's other candidates tell how hard its rows are.
        """
        if len(self.losses) < 2 or not np.isfinite(self.losses).all():
            return 0.0
        excess = self.losses - self.drawn
        chosen = [self.first_near_best(times, losses) for losses in self.drawn]
        own = excess[np.arange(len(chosen)), chosen]
        return max(float((own - excess.mean(axis=1)).mean()), 0.0)


def _errors_of_differences(
    losses: NDArray[np.float64], sums: NDArray[np.float64], sizes: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Standard errors `[candidates, candidates]` of differences, of sums `[candidates, units]`."""
    n = len(sizes)
    if n < 2:
        return np.full((len(losses), len(losses)), np.inf)
    # What a unit adds to a mean, beyond what its size would.
    residual = (sums - losses[:, None] * sizes) / sizes.mean()
    gram = residual @ residual.T
    of_each = np.diag(gram)
    squares = of_each[:, None] + of_each[None, :] - 2 * gram
    return np.asarray(np.sqrt(np.maximum(squares, 0) / (n - 1) / n))
