"""Choosing among candidates by their cross-fitted scores, and what the choice flatters the chosen one's score by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ensembler.blending.pool import Probs, Targets
from ensembler.metrics import check_metric, row_losses, score

DRAWS = 200
SLOW_DRAWS = 60  # for metrics that are no mean over rows and must be computed on every draw
SLOW_ROWS = 4000  # rows, or groups, of such a draw: what it deviates by is scaled to all of them


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
        rows = _units(groups)
        rng = np.random.default_rng(seed)
        tables = [row_losses(metric, probs, y) for probs in predictions]
        known = [table for table in tables if table is not None]
        if len(known) == len(tables):
            return cls._of_means(np.stack(known), rows, rng)
        return cls._of_scores(metric, predictions, y, rows, rng)

    @classmethod
    def _of_means(
        cls,
        table: NDArray[np.float64],
        rows: list[NDArray[np.int64]] | None,
        rng: np.random.Generator,
    ) -> Contest:
        losses = table.mean(axis=1)
        sizes = np.ones(table.shape[1])
        if rows is not None:
            sizes = np.array([len(unit) for unit in rows], np.float64)
            table = np.stack([table[:, unit].sum(axis=1) for unit in rows], axis=1)
        n = len(sizes)
        drawn = np.empty((DRAWS, len(table)))
        for i in range(DRAWS):
            counts = np.bincount(rng.integers(0, n, n), minlength=n)
            drawn[i] = table @ counts / (sizes @ counts)
        # What a unit adds to a mean, beyond what its size would.
        residual = (table - losses[:, None] * sizes) / sizes.mean()
        gram = residual @ residual.T
        square = np.diag(gram)[:, None] + np.diag(gram)[None, :] - 2 * gram
        spread = (
            np.sqrt(np.maximum(square, 0) / max(n - 1, 1) / n)
            if n > 1
            else np.full(square.shape, np.inf)
        )
        return cls(losses, drawn, spread)

    @classmethod
    def _of_scores(
        cls,
        metric: str,
        predictions: Sequence[Probs],
        y: Targets,
        rows: list[NDArray[np.int64]] | None,
        rng: np.random.Generator,
    ) -> Contest:
        sign = -1 if check_metric(metric).greater_is_better else 1
        losses = np.array([sign * score(metric, probs, y) for probs in predictions])
        n = len(y) if rows is None else len(rows)
        size = min(n, SLOW_ROWS)
        found = []
        for _ in range(SLOW_DRAWS):
            units = rng.integers(0, n, size)
            at = units if rows is None else np.concatenate([rows[unit] for unit in units])
            found.append([sign * score(metric, probs[at], y[at]) for probs in predictions])
        drawn = np.array(found)
        drawn = drawn[np.isfinite(drawn).all(axis=1)]
        if not len(drawn):
            drawn = losses[None]
        drawn = losses + (drawn - losses) * np.sqrt(size / n)
        differences = drawn[:, :, None] - drawn[:, None, :]
        return cls(losses, drawn, differences.std(axis=0))

    def first_near_best(self, times: float, losses: NDArray[np.float64] | None = None) -> int:
        """The first candidate within so many standard errors of the best, by the losses on all rows or by others."""
        losses = np.nan_to_num(self.losses if losses is None else losses, nan=np.inf)
        best = int(losses.argmin())
        near = losses - losses[best] <= times * self.errors[:, best]
        return int(np.flatnonzero(near[: best + 1] | (np.arange(best + 1) == best))[0])

    def flattery(self, times: float) -> float:
        """By how much the chosen one's loss looks too small for having been chosen, by this very rule (Efron).

        On every draw of the bootstrap the rule chooses anew; what it takes is worse on all rows
        than on those drawn. The same draw's other candidates tell how hard its rows are.
        """
        if len(self.losses) < 2 or not np.isfinite(self.losses).all():
            return 0.0
        excess = self.losses - self.drawn
        chosen = [self.first_near_best(times, losses) for losses in self.drawn]
        own = excess[np.arange(len(chosen)), chosen]
        return max(float((own - excess.mean(axis=1)).mean()), 0.0)


def _units(groups: NDArray[np.int64] | None) -> list[NDArray[np.int64]] | None:
    """The rows of each group; None where every row is drawn by itself."""
    if groups is None:
        return None
    index = np.unique(groups, return_inverse=True)[1]
    return np.split(np.argsort(index, kind="stable"), np.cumsum(np.bincount(index))[:-1])
