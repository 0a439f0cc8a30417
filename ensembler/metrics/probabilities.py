"""Proper scores of whole probability vectors."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FLOOR = 1e-7  # a true class given less counts as this much, so that one hard zero cannot make a loss infinite


def log_loss(probs: NDArray[np.floating], y: NDArray[np.integer]) -> float:
    """Mean of -log p(true class), in nats; probabilities below 1e-7 count as 1e-7."""
    true_class = probs[np.arange(len(y)), y].astype(np.float64)
    return float(-np.log(np.clip(true_class, FLOOR, None)).mean())


def brier_score(probs: NDArray[np.floating], y: NDArray[np.integer]) -> float:
    """Mean squared distance of the probability vector from the true class, summed over classes, in [0, 2]."""
    squares = np.einsum("nc,nc->n", probs, probs, dtype=np.float64)
    true_class = probs[np.arange(len(y)), y].astype(np.float64)
    return float((squares - 2 * true_class + 1).mean())
