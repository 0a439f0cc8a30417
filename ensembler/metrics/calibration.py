"""Whether predictions made with confidence p are right in a share p of cases.

A sample's confidence is its largest probability. Bins are equal parts of [0, 1].
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ensembler.metrics.metric import Labels, Probs

BINS = 15


def expected_calibration_error(probs: Probs, y: Labels, bins: int = BINS) -> float:
    """Mean |accuracy - confidence| over bins of confidence, weighted by size (Guo et al., 2017).

    Of probabilities `[samples, classes]` and class indices `[samples]`.
    """
    confidence, is_right, _ = _binned(probs, y, bins)
    return calibration_error(confidence, is_right, bins)


def calibration_error(
    confidence: NDArray[np.floating], is_right: NDArray[np.bool_], bins: int = BINS
) -> float:
    """The same of confidences, and whether each answer is right `[samples]`."""
    exact = confidence.astype(np.float64)
    bin_of = np.minimum((exact * bins).astype(np.int64), bins - 1)
    gap = np.bincount(bin_of, weights=is_right - exact, minlength=bins)
    return float(np.abs(gap).sum() / len(exact))


def reliability(probs: Probs, y: Labels, bins: int = 10) -> list[dict[str, float]]:
    """How often predictions of each confidence are right.

    A row for each bin of confidence that is not empty, with its ends, its number of samples, and
    their mean confidence and accuracy.
    """
    confidence, is_right, bin_of = _binned(probs, y, bins)
    rows = []
    for b in np.unique(bin_of):
        inside = bin_of == b
        rows.append(
            {
                "low": b / bins,
                "high": (b + 1) / bins,
                "n": int(inside.sum()),
                "confidence": float(confidence[inside].mean()),
                "accuracy": float(is_right[inside].mean()),
            }
        )
    return rows


def _binned(
    probs: Probs, y: Labels, bins: int
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.int64]]:
    """Each sample's confidence, whether it is right, and its bin `[samples]`."""
    confidence = probs.max(axis=1).astype(np.float64)
    is_right = probs.argmax(axis=1) == y
    bin_of = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    return confidence, is_right, bin_of
