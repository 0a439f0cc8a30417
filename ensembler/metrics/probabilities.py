"""Proper scores of whole probability vectors."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ensembler.logits import FLOOR
from ensembler.metrics.metric import Labels, Losses, Probs
from ensembler.targets.kinds import SINGLE_LABEL, TargetKind

# a true class given less counts as this much, so that one hard zero cannot make a loss infinite


def without_zeros(probs: Probs, *, of: TargetKind = SINGLE_LABEL) -> NDArray[np.float64]:
    """Probabilities mixed with as little of even ones as leaves none below 1e-7: what is submitted.

    As they are where none is that small. Rows keep their sum of one, and each class the order of
    its samples. Their log loss is the one that `log_loss` reports: a hard zero costs 16.1 nats,
    whatever the other side would make of it.
    """
    if probs.size == 0 or of.least(probs) >= FLOOR:
        return np.asarray(probs, np.float64)
    answers = of.answers(probs.shape[1])
    return (1 - answers * FLOOR) * np.asarray(probs, np.float64) + FLOOR


def log_loss(probs: Probs, y: Labels) -> float:
    """Mean of -log p(true class), in nats; probabilities below 1e-7 count as 1e-7."""
    return float(log_losses(probs, y).mean())


def log_losses(probs: Probs, y: Labels) -> Losses:
    """-log p(true class) of each sample `[samples]`, in nats, at most -log 1e-7."""
    return np.asarray(-np.log(np.clip(_of_true_class(probs, y), FLOOR, None)))


def brier_score(probs: Probs, y: Labels) -> float:
    """Mean squared distance of probabilities from the true class, summed over classes, in [0, 2].

    Brier (1950).
    """
    return float(brier_losses(probs, y).mean())


def brier_losses(probs: Probs, y: Labels) -> Losses:
    """The squared distance of each sample's probabilities from its true class `[samples]`."""
    squares = np.einsum("nc,nc->n", probs, probs, dtype=np.float64)
    return np.asarray(squares - 2 * _of_true_class(probs, y) + 1)


def _of_true_class(probs: Probs, y: Labels) -> NDArray[np.float64]:
    return probs[np.arange(len(y)), y].astype(np.float64)
