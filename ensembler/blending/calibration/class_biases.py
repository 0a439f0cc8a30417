"""A bias for each class, fitted to a metric of decisions."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ensembler.blending.pool import Probs, Targets
from ensembler.errors import RequestError
from ensembler.logits import FLOOR, softmax
from ensembler.metrics import Metric, check_metric
from ensembler.metrics.confusion import count_confusion
from ensembler.metrics.registry import decision_metrics
from ensembler.targets.kinds import SINGLE_LABEL

_NEVER = -1e9
_SWEEPS = 5
_CANDIDATES = 200  # values of one class's bias that are compared at a time
_COMPUTED = 40  # the same where the metric has to be computed at each of them
_LIMIT = 10.0  # of a bias: a class that takes or leaves all rows gains nothing beyond it

# From log-probabilities `[rows, classes]` and a class to its best bias.
BestBias = Callable[[NDArray[np.float64], int], "Bias"]


class Bias(NamedTuple):
    """A bias of one class, and the value of the metric with it (larger is better)."""

    value: float
    bias: float


def fit_class_biases(probs: Probs, y: Targets, metric: str | Metric) -> NDArray[np.float64]:
    """Biases `[classes]` of the log-probabilities that make the decisions best in `metric`.

    Never worse than none. Class by class: as its bias grows, rows go over to it one by one, so a
    sort gives the confusion matrix at every value; a metric that is no function of it is computed
    at fewer values. RequestError for a metric that looks at probabilities or their order. A class
    without a row is left out of the comparison, which would only push it down, and keeps a bias of
    zero, the mean of the others.
    """
    found = _check(metric)
    logs = np.log(np.clip(probs, FLOOR, None, dtype=np.float64))
    counts = np.bincount(y, minlength=logs.shape[1])
    present = counts > 0
    logs[:, ~present] = _NEVER
    biases = np.zeros(logs.shape[1])
    if present.sum() < 2:
        return biases
    best_bias, best = _search(found, logs, y)
    rarest_first = [int(c) for c in np.argsort(counts, kind="stable") if present[c]]
    for _ in range(_SWEEPS):
        before = best
        # A metric that weighs classes alike has most to gain from the rarest.
        for c in rarest_first:
            tried = best_bias(logs + biases, c)
            if tried.value > best + 1e-12:
                best = tried.value
                biases[c] += tried.bias
        if best <= before + 1e-12:
            break
    biases[present] -= biases[present].mean()
    return biases


def apply_class_biases(probs: Probs, biases: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probabilities `[rows, classes]` times the exponential of the biases, renormalised."""
    scaled = np.clip(probs, FLOOR, None, dtype=np.float64) * np.exp(biases)
    return scaled / scaled.sum(axis=1, keepdims=True)


def _check(metric: str | Metric) -> Metric:
    found = check_metric(metric, of=SINGLE_LABEL)
    if not found.may_move_decisions:
        raise RequestError(
            f"biases move decisions, which metric {found.name!r} does not look at; choose from "
            f"{', '.join(decision_metrics(SINGLE_LABEL))}"
        )
    return found


def _search(
    metric: Metric, logs: NDArray[np.float64], y: Targets
) -> tuple[BestBias, float]:
    """How the best bias of a class is found, and the value of the metric without any."""
    from_confusion = metric.from_confusion
    if from_confusion is None:

        def value_at(moved: NDArray[np.float64]) -> float:
            return metric.sign * metric.compute(softmax(moved), y)

        return lambda now, c: _computed_bias(now, c, value_at), value_at(logs)

    def evaluate(confusions: NDArray[np.float64]) -> NDArray[np.float64]:
        return metric.sign * from_confusion(confusions)

    counts = count_confusion(logs.argmax(axis=1), y, logs.shape[1])
    plain = float(evaluate(counts[None].astype(np.float64))[0])
    return lambda now, c: _best_bias(now, y, c, evaluate), plain


def _computed_bias(
    logs: NDArray[np.float64], c: int, value_at: Callable[[NDArray[np.float64]], float]
) -> Bias:
    """The best bias of class `c` beyond the present one, the metric computed at each candidate."""
    _, goes_over = _rivals(logs, c)
    candidates = _between(goes_over, _COMPUTED)
    values = np.empty(len(candidates))
    for i, bias in enumerate(candidates):
        moved = logs.copy()
        moved[:, c] += bias
        values[i] = value_at(moved)
    return _nearest_of_best(np.nan_to_num(values, nan=-np.inf), candidates)


def _best_bias(
    logs: NDArray[np.float64],
    y: Targets,
    c: int,
    evaluate: Callable[[NDArray[np.float64]], NDArray[np.float64]],
) -> Bias:
    """The best bias of class `c` beyond the present one, by confusion matrices."""
    n_classes = logs.shape[1]
    second, goes_over = _rivals(logs, c)
    candidates = _between(goes_over, _CANDIDATES)
    # Rows in the order in which they go over, counted by the first candidate at which they have.
    first = np.searchsorted(candidates, goes_over, side="left")
    shape = (len(candidates) + 1, n_classes, n_classes)
    cells = (first * n_classes + y) * n_classes + second
    leaving = np.bincount(cells, minlength=int(np.prod(shape))).reshape(shape)
    gone = np.cumsum(leaving[:-1], axis=0).astype(np.float64)
    confusions = count_confusion(second, y, n_classes)[None] - gone
    confusions[:, :, c] += gone.sum(axis=2)
    return _nearest_of_best(evaluate(confusions), candidates)


def _rivals(
    logs: NDArray[np.float64], c: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Of each row the best class beside `c`, and the bias from which the row belongs to `c`."""
    others = logs.copy()
    others[:, c] = -np.inf
    return others.argmax(axis=1), others.max(axis=1) - logs[:, c]


def _between(goes_over: NDArray[np.float64], most: int) -> NDArray[np.float64]:
    """Biases at which different rows have gone over, from none of them to all."""
    edges = np.unique(np.quantile(goes_over, np.linspace(0, 1, most)))
    middles = (edges[1:] + edges[:-1]) / 2
    candidates = np.concatenate([[edges[0] - 1], middles, [edges[-1] + 1]])
    return np.clip(candidates, -_LIMIT, _LIMIT)


def _nearest_of_best(values: NDArray[np.float64], candidates: NDArray[np.float64]) -> Bias:
    """Of equally good candidates the one nearest to no bias."""
    top = np.flatnonzero(values >= values.max() - 1e-12)
    chosen = int(top[np.abs(candidates[top]).argmin()])
    return Bias(float(values[chosen]), float(candidates[chosen]))
