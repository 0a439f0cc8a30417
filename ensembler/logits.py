"""From logits to probabilities and back, in numpy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Logits = NDArray[np.floating]  # [..., classes]: scores before softmax, any finite value
Probs = NDArray[np.floating]  # [..., classes]: rows sum to 1
# Probabilities are raised to this before a logarithm: a hard zero must not cost infinitely much.
FLOOR = 1e-7


def softmax(logits: Logits) -> NDArray[np.float64]:
    """Probabilities of `logits` over the last axis, in float64; rows of NaN stay NaN."""
    shifted = logits - np.max(logits, axis=-1, keepdims=True)
    exp = np.exp(shifted.astype(np.float64, copy=False))
    exp /= exp.sum(axis=-1, keepdims=True)
    return exp


def log_softmax(logits: Logits) -> NDArray[np.float64]:
    """Logarithms of the probabilities of `logits` over the last axis, in float64."""
    shifted = (logits - np.max(logits, axis=-1, keepdims=True)).astype(
        np.float64, copy=False
    )
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def sigmoid(logits: Logits) -> NDArray[np.float64]:
    """Probability of each label by itself, in float64: of logits of several labels at once.

    NaN stays NaN.
    """
    values = logits.astype(np.float64, copy=False)
    small = np.exp(-np.abs(values))
    return np.where(values >= 0, 1.0, small) / (1.0 + small)


def log_odds(probs: Probs, floor: float = FLOOR) -> NDArray[np.float64]:
    """The logits of probabilities of single labels, which are kept `floor` away from 0 and 1."""
    values = np.clip(probs, floor, 1 - floor, dtype=np.float64)
    return np.log(values) - np.log1p(-values)


def log_probs(probs: Probs, floor: float = FLOOR) -> NDArray[np.float64]:
    """Logarithms of probabilities.

    Zeros are raised to `floor` first, so that every value is finite.
    """
    return np.log(np.clip(probs, floor, None, dtype=np.float64))


def log_mean_probs(logits: NDArray[np.floating]) -> NDArray[np.float32]:
    """The logarithm of the mean over the first axis of `softmax(logits)`, float32 `[...]`.

    Rows of NaN stay NaN. Of `logits` `[members, ..., classes]`; softmax of the result is the mean
    of the probabilities, without underflow.
    """
    logs = log_softmax(logits)
    highest = logs.max(axis=0)
    mean: NDArray[np.float32] = (
        highest + np.log(np.exp(logs - highest).mean(axis=0))
    ).astype(np.float32)
    return mean


def log_odds_of_mean(logits: NDArray[np.floating]) -> NDArray[np.float32]:
    """The logits of the mean over the first axis of `sigmoid(logits)`.

    Returns float32 `[...]`, without underflow.
    """
    # log p, log (1 - p)
    yes, no = (-np.logaddexp(0.0, sign * logits.astype(np.float64)) for sign in (-1, 1))
    sums = (np.logaddexp.reduce(part, axis=0) for part in (yes, no))
    odds: NDArray[np.float32] = np.subtract(*sums).astype(np.float32)
    return odds
