"""A bias for each class, fitted to a metric of decisions: where the line between classes is drawn."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ensembler.blending.methods.confusion import CONFUSION_SCORES
from ensembler.blending.pool import Probs, Targets

Evaluate = Callable[[NDArray[np.float64]], NDArray[np.float64]]

_FLOOR = 1e-7
_NEVER = -1e9
_SWEEPS = 5
_CANDIDATES = 200  # values of one class's bias that are compared at a time


def fit_class_biases(probs: Probs, y: Targets, metric: str) -> NDArray[np.float64]:
    """Biases `[classes]` of the log-probabilities that make the decisions best in `metric`.

    Never worse than none. Class by class: as its bias grows, rows go over to it one by one, so a
    sort gives the confusion matrix at every value. `metric` is accuracy, balanced_accuracy,
    f1_macro, quadratic_kappa or unweighted_kappa. A class without a row is left out of the
    comparison, which would only push it down, and keeps a bias of zero, the mean of the others.
    """
    logs = np.log(np.clip(probs, _FLOOR, None, dtype=np.float64))
    counts = np.bincount(y, minlength=logs.shape[1])
    present = counts > 0
    logs[:, ~present] = _NEVER
    evaluate = CONFUSION_SCORES[metric]
    n_classes = logs.shape[1]
    biases = np.zeros(n_classes)
    best = float(evaluate(_confusion(y, logs.argmax(axis=1), n_classes)[None])[0])
    for _ in range(_SWEEPS):
        before = best
        # The rarest class first: a metric that weighs classes alike has most to gain there.
        for c in np.argsort(counts, kind="stable"):
            if not present[c] or present.sum() == 1:
                continue
            value, bias = _best_bias(logs + biases, y, int(c), evaluate)
            if value > best + 1e-12:
                best = value
                biases[c] += bias
        if best <= before + 1e-12:
            break
    biases[present] -= biases[present].mean()
    return biases


def apply_class_biases(probs: Probs, biases: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probabilities `[rows, classes]` times the exponential of the biases, renormalised."""
    scaled = np.clip(probs, _FLOOR, None, dtype=np.float64) * np.exp(biases)
    return scaled / scaled.sum(axis=1, keepdims=True)


def _confusion(y: Targets, decided: NDArray[np.int64], n_classes: int) -> NDArray[np.float64]:
    cells = np.bincount(y.astype(np.int64) * n_classes + decided, minlength=n_classes * n_classes)
    return cells.reshape(n_classes, n_classes).astype(np.float64)


def _best_bias(
    logs: NDArray[np.float64], y: Targets, c: int, evaluate: Evaluate
) -> tuple[float, float]:
    """The best value of the metric over the bias of class `c`, and that bias beyond the present one."""
    n_classes = logs.shape[1]
    others = logs.copy()
    others[:, c] = -np.inf
    second = others.argmax(axis=1)
    goes_over = others.max(axis=1) - logs[:, c]  # the bias from which a row belongs to c
    edges = np.unique(np.quantile(goes_over, np.linspace(0, 1, _CANDIDATES)))
    candidates = np.concatenate([[edges[0] - 1], (edges[1:] + edges[:-1]) / 2, [edges[-1] + 1]])
    candidates = np.clip(candidates, -10, 10)
    # Rows in the order in which they go over, counted by the first candidate at which they have.
    first = np.searchsorted(candidates, goes_over, side="left")
    shape = (len(candidates) + 1, n_classes, n_classes)
    leave = np.bincount(
        (first * n_classes + y) * n_classes + second, minlength=int(np.prod(shape))
    ).reshape(shape)
    gone = np.cumsum(leave[:-1], axis=0).astype(np.float64)
    confusions = _confusion(y, second, n_classes)[None] - gone
    confusions[:, :, c] += gone.sum(axis=2)
    values = evaluate(confusions)
    # Of equally good values the one nearest to no bias.
    top = np.flatnonzero(values >= values.max() - 1e-12)
    chosen = int(top[np.abs(candidates[top]).argmin()])
    return float(values[chosen]), float(candidates[chosen])
