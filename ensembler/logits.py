"""From logits to probabilities and back, in numpy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Logits = NDArray[np.floating]  # [..., classes]: scores before softmax, any finite value
Probs = NDArray[np.floating]  # [..., classes]: rows sum to 1


def softmax(logits: Logits) -> NDArray[np.float64]:
    """Probabilities of `logits` over the last axis, in float64; rows of NaN stay NaN."""
    shifted = logits - np.max(logits, axis=-1, keepdims=True)
    exp = np.exp(shifted.astype(np.float64, copy=False))
    exp /= exp.sum(axis=-1, keepdims=True)
    return exp


def log_softmax(logits: Logits) -> NDArray[np.float64]:
    """Logarithms of the probabilities of `logits` over the last axis, in float64."""
    shifted = (logits - np.max(logits, axis=-1, keepdims=True)).astype(np.float64, copy=False)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def log_probs(probs: Probs, floor: float = 1e-7) -> NDArray[np.float64]:
    """Logarithms of probabilities; zeros are raised to `floor` first, so that every value is finite."""
    return np.log(np.clip(probs, floor, None, dtype=np.float64))


def log_mean_probs(logits: NDArray[np.floating]) -> NDArray[np.float32]:
    """The logarithm of the mean over the first axis of `softmax(logits)`, float32 `[...]`; rows of NaN stay NaN.

    Of `logits` `[members, ..., classes]`; softmax of the result is the mean of the probabilities, without underflow.
    """
    logs = log_softmax(logits)
    highest = logs.max(axis=0)
    mean: NDArray[np.float32] = (highest + np.log(np.exp(logs - highest).mean(axis=0))).astype(np.float32)
    return mean
