"""A threshold for each label of a multi-label target, fitted to a metric of decisions (Lipton et al., 2014)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ensembler.blending.judging.cross_fitting import splits
from ensembler.blending.spec import LABEL_SET_DECISIONS
from ensembler.errors import UnknownNameError
from ensembler.logits import log_odds, sigmoid

Given = NDArray[np.bool_]  # [rows, classes]: which labels are decided on
_SWEEPS = 3
_FEWEST = 10  # rows with a label below which its threshold is not searched


def fit_thresholds(
    probs: NDArray[np.floating],
    y: NDArray[np.integer],
    metric: str,
    searched: NDArray[np.bool_] | None = None,
) -> NDArray[np.float64]:
    """Thresholds `[classes]` in (0, 1) that make the decisions on `probs` best in `metric`.

    Never worse than 0.5. Label by label, the rarest first, every threshold that decides otherwise
    is compared, until no label gains. Of equally good ones the one nearest to 0.5 is taken. A label
    that fewer than ten rows have keeps 0.5: one found on so few is chance. `searched` `[classes]`
    says otherwise which labels get one.
    """
    if metric not in LABEL_SET_DECISIONS:
        raise UnknownNameError("metric of decisions on several labels", metric, LABEL_SET_DECISIONS)
    probs, truth = np.asarray(probs, np.float64), y == 1
    thresholds = np.full(probs.shape[1], 0.5)
    given: Given = probs >= 0.5
    searched = often_enough(y) if searched is None else searched
    orders = np.argsort(-probs, axis=0, kind="stable")
    # Of f1_macro and hamming_loss every label has a term of its own; for the others all labels
    # count at once.
    for _ in range(1 if metric in ("f1_macro", "hamming_loss") else _SWEEPS):
        before = thresholds.copy()
        for c in np.argsort(truth.sum(axis=0), kind="stable"):
            if searched[c] and truth[:, c].any():
                values = _values(metric, given, truth, int(c), orders[:, c])
                thresholds[c] = _best(values, probs[orders[:, c], c])
                given[:, c] = probs[:, c] >= thresholds[c]
        if (thresholds == before).all():
            break
    return thresholds


def cross_fitted_thresholds(
    probs: NDArray[np.floating], y: NDArray[np.integer], metric: str, part: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Probabilities moved by `move_to_half`, each row's by thresholds that were fitted on the other parts.

    Labels that all rows together have often enough get one in every part, as they do in the end.
    """
    searched = often_enough(y)
    out = np.empty(probs.shape, np.float64)
    for fit, scored in splits(part):
        out[scored] = move_to_half(
            probs[scored], fit_thresholds(probs[fit], y[fit], metric, searched)
        )
    return out


def often_enough(y: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Which labels `[classes]` so many rows have that a threshold is more than chance."""
    return np.asarray((y == 1).sum(axis=0) >= _FEWEST)


def move_to_half(
    probs: NDArray[np.floating], thresholds: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Probabilities `[rows, classes]` whose log-odds are moved so that each label's threshold becomes 0.5."""
    return sigmoid(log_odds(probs) - log_odds(thresholds))


def _values(
    metric: str, given: Given, truth: Given, c: int, order: NDArray[np.int64]
) -> NDArray[np.float64]:
    """The metric (larger is better) when label `c` is given to the first 0, 1, 2, ... rows in `order` `[rows + 1]`."""
    has = truth[:, c]
    hits = np.concatenate([[0], np.cumsum(has[order])])
    count, having = np.arange(len(order) + 1), int(has.sum())
    if metric == "f1_macro":
        return 2 * hits / (count + having)
    if metric == "hamming_loss":
        return 2.0 * hits - count
    others_given, others_true = np.delete(given, c, axis=1), np.delete(truth, c, axis=1)
    others_hit = others_given & others_true
    if metric == "f1_micro":
        return (
            2
            * (others_hit.sum() + hits)
            / (others_given.sum() + others_true.sum() + count + having)
        )
    if metric == "accuracy":
        right = (others_given == others_true).all(axis=1)
        on, off = right & has, right & ~has
    else:
        n_hit, n_labels = (
            others_hit.sum(axis=1),
            others_given.sum(axis=1) + others_true.sum(axis=1) + has,
        )
        on = 2 * (n_hit + has) / (n_labels + 1)
        off = np.where(n_labels > 0, 2 * n_hit / np.maximum(n_labels, 1), 1.0)
    change = on.astype(np.float64) - off
    return np.concatenate([[0.0], np.cumsum(change[order])])


def _best(values: NDArray[np.float64], falling: NDArray[np.float64]) -> float:
    """The threshold with the best value, `falling` being the probabilities in their order `[rows]`."""
    above = np.concatenate([[1.0], falling])
    below = np.concatenate([falling, [0.0]])
    possible = np.flatnonzero(
        above > below
    )  # rows with equal probabilities are given the label together
    best = possible[values[possible] >= values[possible].max() - 1e-12]
    around = (below[best] < 0.5) & (above[best] >= 0.5)
    middle = np.where(around, 0.5, (above[best] + below[best]) / 2)
    return float(np.clip(middle[np.abs(middle - 0.5).argmin()], 1e-6, 1 - 1e-6))
