"""Proper scores of whole probability vectors."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ensembler.targets.kinds import SINGLE_LABEL, TargetKind

# a true class given less counts as this much, so that one hard zero cannot make a loss infinite
FLOOR = 1e-7


def without_zeros(
    probs: NDArray[np.floating], *, of: TargetKind = SINGLE_LABEL
) -> NDArray[np.float64]:
    """Probabilities mixed with as little of even ones as leaves none below 1e-7: what is submitted.

    As they are where none is that small. Rows keep their sum of one, and each class the order of
    its samples. Their log loss is the one that `log_loss` reports: a hard zero costs 16.1 nats,
    whatever the other side would make of it.
    """
    if probs.size == 0 or of.least(probs) >= FLOOR:
        return np.asarray(probs, np.float64)
    answers = of.answers(probs.shape[1])
    return (1 - answers * FLOOR) * np.asarray(probs, np.float64) + FLOOR


def log_loss(probs: NDArray[np.floating], y: NDArray[np.integer]) -> float:
    """Mean of -log p(true class), in nats; probabilities below 1e-7 count as 1e-7."""
    true_class = probs[np.arange(len(y)), y].astype(np.float64)
    return float(-np.log(np.clip(true_class, FLOOR, None)).mean())


def brier_score(probs: NDArray[np.floating], y: NDArray[np.integer]) -> float:
    """Mean squared distance of the probability vector from the true class, summed over classes, in [0, 2]."""
    squares = np.einsum("nc,nc->n", probs, probs, dtype=np.float64)
    true_class = probs[np.arange(len(y)), y].astype(np.float64)
    return float((squares - 2 * true_class + 1).mean())
