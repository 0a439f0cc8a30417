"""Scores that look only at the most probable class."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def confusion_matrix(probs: NDArray[np.floating], y: NDArray[np.integer]) -> NDArray[np.int64]:
    """Counts `[true class, predicted class]`; ties go to the first class."""
    n_classes = probs.shape[1]
    cells = np.bincount(
        y.astype(np.int64) * n_classes + probs.argmax(axis=1), minlength=n_classes * n_classes
    )
    return cells.reshape(n_classes, n_classes)


def accuracy(probs: NDArray[np.floating], y: NDArray[np.integer]) -> float:
    """Share of samples whose most probable class is the true one."""
    return float((probs.argmax(axis=1) == y).mean())


def balanced_accuracy(probs: NDArray[np.floating], y: NDArray[np.integer]) -> float:
    """Mean recall over the classes that occur in `y`."""
    confusion = confusion_matrix(probs, y)
    present = confusion.sum(axis=1) > 0
    return float((np.diag(confusion)[present] / confusion.sum(axis=1)[present]).mean())


def f1_macro(probs: NDArray[np.floating], y: NDArray[np.integer]) -> float:
    """Unweighted mean of the F1 of each class that occurs in `y` or among the predictions."""
    confusion = confusion_matrix(probs, y)
    either = confusion.sum(axis=0) + confusion.sum(axis=1)
    present = either > 0
    return float((2 * np.diag(confusion)[present] / either[present]).mean())


def quadratic_kappa(probs: NDArray[np.floating], y: NDArray[np.integer]) -> float:
    """Agreement beyond chance, an error weighed by the squared distance of its classes.

    For classes whose order means something (Cohen, 1968). NaN when one class alone occurs in `y`
    and among the predictions.
    """
    index = np.arange(probs.shape[1])
    return _kappa(confusion_matrix(probs, y), (index[:, None] - index[None, :]) ** 2)


def unweighted_kappa(probs: NDArray[np.floating], y: NDArray[np.integer]) -> float:
    """Agreement beyond chance, every error weighing the same (Cohen, 1960).

    NaN when one class alone occurs in `y` and among the predictions.
    """
    return _kappa(confusion_matrix(probs, y), 1 - np.eye(probs.shape[1], dtype=np.int64))


def _kappa(confusion: NDArray[np.int64], weights: NDArray[np.int64]) -> float:
    """Kappa of counts `[true class, predicted class]` with the weight of each error."""
    expected = np.outer(confusion.sum(axis=1), confusion.sum(axis=0)) / confusion.sum()
    by_chance = (weights * expected).sum()
    if by_chance == 0:
        return float("nan")
    return float(1 - (weights * confusion).sum() / by_chance)
