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


def cohen_kappa(probs: NDArray[np.floating], y: NDArray[np.integer]) -> float:
    """Agreement beyond chance with quadratic weights, for ordered classes (Cohen, 1968).

    NaN for a single class.
    """
    confusion = confusion_matrix(probs, y).astype(np.float64)
    index = np.arange(len(confusion))
    weights = (index[:, None] - index[None, :]) ** 2
    expected = np.outer(confusion.sum(axis=1), confusion.sum(axis=0)) / confusion.sum()
    by_chance = (weights * expected).sum()
    return float("nan") if by_chance == 0 else float(1 - (weights * confusion).sum() / by_chance)
