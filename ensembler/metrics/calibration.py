"""Whether predictions made with confidence p are right in a share p of cases."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BINS = 15


def expected_calibration_error(
    probs: NDArray[np.floating], y: NDArray[np.integer], bins: int = BINS
) -> float:
    """Mean |accuracy - confidence| over `bins` equal bins of confidence, weighted by size (Guo et al., 2017)."""
    confidence = probs.max(axis=1).astype(np.float64)
    right = probs.argmax(axis=1) == y
    bin_of = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    gap = np.bincount(bin_of, weights=right - confidence, minlength=bins)
    return float(np.abs(gap).sum() / len(y))


def reliability(
    probs: NDArray[np.floating], y: NDArray[np.integer], bins: int = 10
) -> list[dict[str, float]]:
    """How often predictions of each confidence are right.

    A row for each bin of confidence that is not empty.
    """
    confidence = probs.max(axis=1).astype(np.float64)
    right = probs.argmax(axis=1) == y
    bin_of = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    rows = []
    for b in np.unique(bin_of):
        inside = bin_of == b
        rows.append(
            {
                "low": b / bins,
                "high": (b + 1) / bins,
                "n": int(inside.sum()),
                "confidence": float(confidence[inside].mean()),
                "accuracy": float(right[inside].mean()),
            }
        )
    return rows
