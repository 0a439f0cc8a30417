"""A threshold for each label of a multi-label target, fitted to a metric of decisions (Lipton et al., 2014)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ensembler.logits import log_odds, sigmoid
from ensembler.metrics import check_metric, score

_CANDIDATES = 50  # thresholds of one label that are compared
_SWEEPS = 3


def fit_thresholds(probs: NDArray[np.floating], y: NDArray[np.integer], metric: str) -> NDArray[np.float64]:
    """Thresholds `[classes]` in (0, 1) that make the decisions on `probs` best in `metric`; never worse than 0.5.

    Label by label, the rarest first, until no label gains; of equally good thresholds the one nearest to 0.5 is taken.
    A label that no row has keeps 0.5.
    """
    sign = 1 if check_metric(metric, several=True).greater_is_better else -1
    # Of f1_macro every label has a term of its own; for the others all labels count at once.
    alone = metric == "f1_macro"
    thresholds = np.full(probs.shape[1], 0.5)
    given = (probs >= 0.5).astype(np.float64)
    for _ in range(1 if alone else _SWEEPS):
        before = thresholds.copy()
        for c in np.argsort(y.sum(axis=0), kind="stable"):
            if not y[:, c].any():
                continue
            seen = slice(c, c + 1) if alone else slice(None)
            decided = given[:, seen].copy()
            values = []
            candidates = _candidates(probs[:, c], thresholds[c])
            for threshold in candidates:
                decided[:, 0 if alone else c] = probs[:, c] >= threshold
                values.append(sign * score(metric, decided, y[:, seen]))
            best = np.flatnonzero(np.array(values) >= max(values) - 1e-12)
            thresholds[c] = min(candidates[best], key=lambda t: abs(t - 0.5))
            given[:, c] = probs[:, c] >= thresholds[c]
        if (thresholds == before).all():
            break
    return thresholds


def _candidates(values: NDArray[np.floating], present: float) -> NDArray[np.float64]:
    edges = np.unique(np.quantile(np.asarray(values, np.float64), np.linspace(0, 1, _CANDIDATES)))
    return np.clip(np.append((edges[1:] + edges[:-1]) / 2, present), 1e-6, 1 - 1e-6)


def move_to_half(probs: NDArray[np.floating], thresholds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probabilities `[rows, classes]` whose log-odds are moved so that each label's threshold becomes 0.5."""
    return sigmoid(log_odds(probs) - log_odds(thresholds))
