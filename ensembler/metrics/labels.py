"""Scores of one label a sample that look only at the most probable class.

All take probabilities `[samples, classes]` and class indices `[samples]`. What is a function of the
confusion matrix is written in `metrics/confusion.py` and computed from there.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ensembler.metrics import confusion
from ensembler.metrics.metric import Confusions, Labels, Losses, Probs, Values


def accuracy(probs: Probs, y: Labels) -> float:
    """Share of samples whose most probable class is the true one; ties go to the first class."""
    return float((probs.argmax(axis=1) == y).mean())


def errors(probs: Probs, y: Labels) -> Losses:
    """1 for each sample whose most probable class is not the true one, else 0 `[samples]`."""
    return (probs.argmax(axis=1) != y).astype(np.float64)


def balanced_accuracy(probs: Probs, y: Labels) -> float:
    """Mean recall over the classes that occur in `y`."""
    return _of_one(confusion.balanced_accuracy, probs, y)


def f1_macro(probs: Probs, y: Labels) -> float:
    """Unweighted mean of the F1 of each class that occurs in `y` or among the predictions."""
    return _of_one(confusion.f1_macro, probs, y)


def quadratic_kappa(probs: Probs, y: Labels) -> float:
    """Agreement beyond chance for classes whose order means something (Cohen, 1968).

    An error weighs by the squared distance of its classes. NaN when one class alone occurs in `y`
    and among the predictions.
    """
    return _of_one(confusion.quadratic_kappa, probs, y)


def unweighted_kappa(probs: Probs, y: Labels) -> float:
    """Agreement beyond chance, every error weighing the same (Cohen, 1960).

    NaN when one class alone occurs in `y` and among the predictions.
    """
    return _of_one(confusion.unweighted_kappa, probs, y)


def _of_one(score: Callable[[Confusions], Values], probs: Probs, y: Labels) -> float:
    counts = confusion.confusion_matrix(probs, y).astype(np.float64)
    return float(score(counts[None])[0])
