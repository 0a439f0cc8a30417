"""A threshold for each label, fitted to a metric of decisions (Lipton et al., 2014)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ensembler.blending.judging.cross_fitting import splits
from ensembler.errors import RequestError
from ensembler.logits import log_odds, sigmoid
from ensembler.metrics import Metric, check_metric
from ensembler.metrics.registry import decision_metrics
from ensembler.targets.kinds import MULTI_LABEL

_SWEEPS = 3
_FEWEST = 10  # rows with a label below which its threshold is not searched
_COMPUTED = (
    40  # cutoffs of a label that are compared where the metric is computed at each of them
)


def fit_thresholds(
    probs: NDArray[np.floating],
    y: NDArray[np.integer],
    metric: str | Metric,
    searched: NDArray[np.bool_] | None = None,
) -> NDArray[np.float64]:
    """Thresholds `[classes]` in (0, 1) that make the decisions on `probs` best in `metric`.

    Never worse than 0.5. Label by label, the rarest first, every threshold that decides otherwise
    is compared, until no label gains; of a metric that has to be computed for each, some of them.
    Of equally good ones the one nearest to 0.5 is taken. A label that fewer than ten rows have
    keeps 0.5: one found on so few is chance. `searched` `[classes]` says otherwise which labels get
    one. RequestError for a metric that looks at probabilities or their order.
    """
    found = _check(metric)
    searched = often_enough(y) if searched is None else searched
    search = _Search(found, np.asarray(probs, np.float64), np.asarray(y))
    n_having = search.truth.sum(axis=0)
    rarest_first = np.argsort(n_having, kind="stable")
    labels = [int(c) for c in rarest_first if searched[c] and n_having[c]]
    for _ in range(1 if found.label_by_label else _SWEEPS):
        before = search.thresholds.copy()
        for c in labels:
            search.improve(c)
        if (search.thresholds == before).all():
            break
    return search.thresholds


def cross_fitted_thresholds(
    probs: NDArray[np.floating],
    y: NDArray[np.integer],
    metric: str | Metric,
    part: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Probabilities moved by `move_to_half`, with thresholds fitted on the other parts of rows.

    Labels that all rows together have often enough get one in every part, as they do in the end.
    """
    searched = often_enough(y)
    out = np.empty(probs.shape, np.float64)
    for fit, scored in splits(part):
        thresholds = fit_thresholds(probs[fit], y[fit], metric, searched)
        out[scored] = move_to_half(probs[scored], thresholds)
    return out


def often_enough(y: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Which labels `[classes]` so many rows have that a threshold is more than chance."""
    return np.asarray((y == 1).sum(axis=0) >= _FEWEST)


def move_to_half(
    probs: NDArray[np.floating], thresholds: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Probabilities `[rows, classes]` moved so that each label's threshold becomes 0.5."""
    return sigmoid(log_odds(probs) - log_odds(thresholds))


def _check(metric: str | Metric) -> Metric:
    found = check_metric(metric, of=MULTI_LABEL)
    if not found.may_move_decisions:
        raise RequestError(
            f"thresholds move decisions, which metric {found.name!r} does not look at; choose from "
            f"{', '.join(decision_metrics(MULTI_LABEL))}"
        )
    return found


@dataclass
class _Search:
    """The thresholds `[classes]` found so far, on probabilities and truth `[rows, classes]`."""

    metric: Metric
    probs: NDArray[np.float64]
    y: NDArray[np.integer]

    def __post_init__(self) -> None:
        self.truth = self.y == 1
        self.given = self.probs >= 0.5
        self.thresholds = np.full(self.probs.shape[1], 0.5)
        self.orders = np.argsort(-self.probs, axis=0, kind="stable")

    def improve(self, c: int) -> None:
        """Give label `c` its best threshold beside those of the others."""
        order = self.orders[:, c]
        falling = self.probs[order, c]
        # A cutoff k gives the label to the k most probable rows; equal ones are given it together.
        above = np.concatenate([[1.0], falling])
        below = np.concatenate([falling, [0.0]])
        possible = np.flatnonzero(above > below)
        middles = _middles(above[possible], below[possible])
        if self.metric.at_cutoffs is None:
            kept = _some_around_half(middles)
            middles = middles[kept]
            values = self._computed(c, middles)
        else:
            values = self.metric.at_cutoffs(self.given, self.truth, c, order)[possible]
        best = middles[values >= values.max() - 1e-12]
        nearest = best[np.abs(best - 0.5).argmin()]
        self.thresholds[c] = np.clip(nearest, 1e-6, 1 - 1e-6)
        self.given[:, c] = self.probs[:, c] >= self.thresholds[c]

    def _computed(self, c: int, candidates: NDArray[np.float64]) -> NDArray[np.float64]:
        """The metric (larger is better) with each of the thresholds of label `c`."""
        moved = move_to_half(self.probs, self.thresholds)
        values = np.empty(len(candidates))
        for i, threshold in enumerate(np.clip(candidates, 1e-6, 1 - 1e-6)):
            moved[:, c] = move_to_half(self.probs[:, c], threshold)
            values[i] = self.metric.sign * self.metric.compute(moved, self.y)
        return np.nan_to_num(values, nan=-np.inf)


def _middles(above: NDArray[np.float64], below: NDArray[np.float64]) -> NDArray[np.float64]:
    """The threshold of each cutoff: between the probabilities around it, or 0.5 where it is."""
    around_half = (below < 0.5) & (above >= 0.5)
    return np.where(around_half, 0.5, (above + below) / 2)


def _some_around_half(candidates: NDArray[np.float64]) -> NDArray[np.int64]:
    """Positions of so many candidates, evenly over their order, and of the one nearest to 0.5."""
    evenly = np.linspace(0, len(candidates) - 1, _COMPUTED).round().astype(np.int64)
    return np.unique([*evenly, np.abs(candidates - 0.5).argmin()])
