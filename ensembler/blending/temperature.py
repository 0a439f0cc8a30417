"""Temperature: one number that makes a prediction more or less sure of itself (Guo et al., 2017)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ensembler.blending.pool import Probs, Targets
from ensembler.logits import softmax

FLOOR = 1e-7
_RANGE = (-3.0, 3.0)  # of log T


def fit_temperature(probs: Probs, y: Targets) -> float:
    """The T > 0 that divides the log-probabilities `[rows, classes]` for the smallest log loss; never worse than 1."""
    from scipy.optimize import minimize_scalar  # half a second that most blends do without

    logs = np.log(np.clip(probs, FLOOR, None, dtype=np.float64))

    def loss(log_t: float) -> float:
        z = logs / np.exp(log_t)
        z -= z.max(axis=1, keepdims=True)
        return float((np.log(np.exp(z).sum(axis=1)) - z[np.arange(len(z)), y]).mean())

    found = minimize_scalar(loss, bounds=_RANGE, method="bounded", options={"xatol": 1e-4})
    return float(np.exp(found.x)) if found.fun < loss(0.0) else 1.0


def apply_temperature(probs: Probs, temperature: float) -> NDArray[np.float64]:
    """Probabilities with their logarithms divided by `temperature`: above 1 softer, below 1 sharper."""
    if temperature == 1.0:
        return np.asarray(probs, np.float64)
    return softmax(np.log(np.clip(probs, FLOOR, None, dtype=np.float64)) / temperature)
