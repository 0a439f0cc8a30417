"""Scores of counts `[true class, predicted class]`, of many candidates at once.

Each takes `[candidates, true class, predicted class]` and gives `[candidates]`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ensembler.metrics.metric import Confusions, Labels, Probs, Values


def confusion_matrix(probs: Probs, y: Labels) -> NDArray[np.int64]:
    """Counts `[true class, predicted class]` of probabilities `[samples, classes]` and labels.

    The prediction is the most probable class; ties go to the first.
    """
    return count_confusion(probs.argmax(axis=1), y, probs.shape[1])


def count_confusion(
    predicted: NDArray[np.integer], y: Labels, n_classes: int
) -> NDArray[np.int64]:
    """Counts `[true class, predicted class]` of class indices and labels `[samples]`."""
    cells = np.bincount(y.astype(np.int64) * n_classes + predicted, minlength=n_classes**2)
    return cells.reshape(n_classes, n_classes)


def accuracy(confusions: Confusions) -> Values:
    """Share of samples on the diagonal."""
    return np.asarray(_diagonals(confusions).sum(axis=1) / confusions.sum(axis=(1, 2)))


def balanced_accuracy(confusions: Confusions) -> Values:
    """Mean recall over the classes that occur (Brodersen et al., 2010)."""
    support = confusions.sum(axis=2)
    recall = _diagonals(confusions) / np.maximum(support, 1)
    return np.asarray(recall.sum(axis=1) / (support > 0).sum(axis=1))


def f1_macro(confusions: Confusions) -> Values:
    """Unweighted mean of the F1 of each class that occurs, or is predicted."""
    either = confusions.sum(axis=1) + confusions.sum(axis=2)
    f1 = 2 * _diagonals(confusions) / np.maximum(either, 1)
    return np.asarray(f1.sum(axis=1) / (either > 0).sum(axis=1))


def quadratic_kappa(confusions: Confusions) -> Values:
    """Agreement beyond chance, errors weighed by squared distances of classes (Cohen, 1968)."""
    index = np.arange(confusions.shape[1])
    return _kappa(confusions, (index[:, None] - index[None, :]) ** 2)


def unweighted_kappa(confusions: Confusions) -> Values:
    """Agreement beyond chance, every error weighing the same (Cohen, 1960)."""
    return _kappa(confusions, 1 - np.eye(confusions.shape[1], dtype=np.int64))


def _kappa(confusions: Confusions, weights: NDArray[np.int64]) -> Values:
    """Kappa with the weight of each error `[true class, predicted class]`.

    NaN where one class alone occurs and is predicted: chance leaves nothing to agree beyond.
    """
    n = confusions.sum(axis=(1, 2))
    true, predicted = confusions.sum(axis=2), confusions.sum(axis=1)
    expected = true[:, :, None] * predicted[:, None, :] / n[:, None, None]
    by_chance = (weights * expected).sum(axis=(1, 2))
    disagreement = (weights * confusions).sum(axis=(1, 2))
    return np.asarray(1 - disagreement / np.where(by_chance > 0, by_chance, np.nan))


def _diagonals(confusions: Confusions) -> NDArray[np.float64]:
    return np.asarray(np.einsum("mcc->mc", confusions))
