"""A score by itself, with its interval: what other rows of the same kind would have given."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ensembler.blending.judging.comparison import DRAWS
from ensembler.blending.judging.intervals import (
    Uncertainty,
    Units,
    of_draws,
    of_means,
    t_quantile,
)
from ensembler.blending.pool import Probs, Targets
from ensembler.metrics import row_losses, score


@dataclass(frozen=True)
class ScoreInterval:
    """A score and its 95 % interval, over rows or over whole groups of them."""

    metric: str
    value: float
    low: float
    high: float

    def moved(self, by: float) -> ScoreInterval:
        """The score moved by a correction, itself an estimate: the interval holds both."""
        ends = (self.low, self.high, self.low + by, self.high + by)
        return ScoreInterval(self.metric, self.value + by, min(ends), max(ends))


def score_interval(
    metric: str,
    probs: Probs,
    y: Targets,
    groups: NDArray[np.int64] | None = None,
    *,
    seed: int = 0,
) -> ScoreInterval:
    """Score `probs` `[rows, classes]`, with the interval of so few independent rows or groups."""
    value = score(metric, probs, y)
    units = Units.of(len(y), groups)
    found = _uncertainty(metric, probs, y, units, seed)
    reach = float(found.errors[0]) * t_quantile(found.freedom)
    if not np.isfinite(reach):
        return ScoreInterval(metric, value, -np.inf, np.inf)
    return ScoreInterval(metric, value, value - reach, value + reach)


def _uncertainty(
    metric: str, probs: Probs, y: Targets, units: Units, seed: int
) -> Uncertainty:
    losses = row_losses(metric, probs, y)
    if losses is not None:
        return of_means(losses[None], units)
    drawn = units.drawn(np.random.default_rng(seed), DRAWS)
    scores = np.array([score(metric, probs[rows], y[rows]) for rows in drawn])
    return of_draws(scores[np.isfinite(scores)][:, None], units)
