"""Scores of samples with any number of labels at once, as scikit-learn defines them for multi-label indicators.

Where F1 is not defined, `f1_macro` leaves the label out and `f1_samples` counts the sample as
right. Probabilities and truth are `[samples, classes]`, the truth 0 or 1; a label counts as given
from a probability of 0.5.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ensembler.metrics import calibration, ranking
from ensembler.metrics.probabilities import FLOOR

Truth = NDArray[np.integer]  # [samples, classes]: 1 where the sample has the label, else 0
Probs = NDArray[np.floating]  # [samples, classes]: each label's probability; rows sum to anything


def accuracy(probs: Probs, y: Truth) -> float:
    """Share of samples whose whole set of labels is right (subset accuracy)."""
    return float(((probs >= 0.5) == (y == 1)).all(axis=1).mean())


def hamming_loss(probs: Probs, y: Truth) -> float:
    """Share of labels, over all samples and classes, that are decided wrong."""
    return float(((probs >= 0.5) != (y == 1)).mean())


def f1_macro(probs: Probs, y: Truth) -> float:
    """Unweighted mean of the F1 of each label that occurs in `y` or among the decisions.

    NaN when none does.
    """
    hits, sizes = _hits_and_sizes(probs, y, axis=0)
    present = sizes > 0
    return float((2 * hits[present] / sizes[present]).mean()) if present.any() else float("nan")


def f1_samples(probs: Probs, y: Truth) -> float:
    """Mean over samples of the F1 of their sets.

    A sample without a label that is given none counts as right.
    """
    return float(_f1_of_samples(probs, y).mean())


def f1_micro(probs: Probs, y: Truth) -> float:
    """F1 of all labels of all samples in one; NaN when there is none and none is given."""
    hits, sizes = (part.sum() for part in _hits_and_sizes(probs, y, axis=0))
    return float(2 * hits / sizes) if sizes else float("nan")


def log_loss(probs: Probs, y: Truth) -> float:
    """Mean binary cross entropy over samples and labels, in nats.

    Probabilities are kept 1e-7 away from 0 and 1.
    """
    return float(label_losses(probs, y).mean())


def label_losses(probs: Probs, y: Truth) -> NDArray[np.float64]:
    """The binary cross entropy of each label `[samples, classes]`."""
    right = np.where(y == 1, probs, 1 - np.asarray(probs, np.float64))
    losses: NDArray[np.float64] = -np.log(np.clip(right, FLOOR, None))
    return losses


def row_losses(metric: str, probs: Probs, y: Truth) -> NDArray[np.float64] | None:
    """The loss of each sample when the metric is a mean over samples (lower is better), else None."""
    wrong = (probs >= 0.5) != (y == 1)
    if metric == "log_loss":
        return label_losses(probs, y).mean(axis=1)
    if metric == "brier":
        return 2 * np.square(np.asarray(probs, np.float64) - y).mean(axis=1)
    if metric == "hamming_loss":
        return wrong.mean(axis=1)
    if metric == "accuracy":
        return wrong.any(axis=1).astype(np.float64)
    if metric == "f1_samples":
        return 1 - _f1_of_samples(probs, y)
    return None


def brier_score(probs: Probs, y: Truth) -> float:
    """Mean over samples and labels of the Brier score of two answers, yes and no, in [0, 2]."""
    return float(2 * np.square(np.asarray(probs, np.float64) - y).mean())


def roc_auc_macro(probs: Probs, y: Truth) -> float:
    """Mean over labels of the area under the ROC curve.

    Labels that all or no samples have are left out.
    """
    areas = [ranking.area(probs[:, c], y[:, c] == 1) for c in _decided(y)]
    return float(np.mean(areas)) if areas else float("nan")


def average_precision(probs: Probs, y: Truth) -> float:
    """Mean over labels of the average precision (mAP).

    Labels that all or no samples have are left out.
    """
    found = [ranking.average_precision(probs[:, c], y[:, c] == 1) for c in _decided(y)]
    return float(np.mean(found)) if found else float("nan")


def expected_calibration_error(probs: Probs, y: Truth) -> float:
    """The calibration error of all labels of all samples as answers of yes or no (Guo et al., 2017)."""
    yes = np.asarray(probs, np.float64).ravel()
    return calibration.expected_calibration_error(np.stack([1 - yes, yes], axis=1), y.ravel())


def _f1_of_samples(probs: Probs, y: Truth) -> NDArray[np.float64]:
    hits, sizes = _hits_and_sizes(probs, y, axis=1)
    return np.where(sizes > 0, 2 * hits / np.maximum(sizes, 1), 1.0)


def _decided(y: Truth) -> list[int]:
    return [c for c in range(y.shape[1]) if 0 < (y[:, c] == 1).sum() < len(y)]


def _hits_and_sizes(
    probs: Probs, y: Truth, axis: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    given, wanted = probs >= 0.5, y == 1
    return (given & wanted).sum(axis=axis), given.sum(axis=axis) + wanted.sum(axis=axis)
