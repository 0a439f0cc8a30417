"""Scores that look at the order of probabilities, not at their size."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ensembler.metrics.metric import Labels, Losses, Probs


def roc_auc_ovr(probs: Probs, y: Labels) -> float:
    """Mean over classes of the area under the ROC curve of that class against the rest.

    Of probabilities `[samples, classes]` and class indices `[samples]`. Two classes have one area.
    Classes that do not occur in `y` are left out; NaN when no class has a rest.
    """
    n_classes = probs.shape[1]
    classes = [1] if n_classes == 2 else range(n_classes)
    occurring = [c for c in classes if 0 < (y == c).sum() < len(y)]
    areas = [area(probs[:, c], y == c) for c in occurring]
    return float(np.mean(areas)) if areas else float("nan")


def area(values: NDArray[np.floating], positive: NDArray[np.bool_]) -> float:
    """The area under the ROC curve of `values` `[samples]`, some but not all `positive`.

    The share of pairs of a positive and a negative that are in order, ties counting half (Hanley
    and McNeil, 1982).
    """
    # Mann-Whitney: mean ranks of the positives, ties at their mean rank.
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    mean_rank = np.cumsum(counts) - (counts - 1) / 2
    n_positive = int(positive.sum())
    n_negative = len(positive) - n_positive
    rank_sum = mean_rank[inverse][positive].sum()
    return float((rank_sum - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative))


def average_precision(values: NDArray[np.floating], positive: NDArray[np.bool_]) -> float:
    """The mean precision at each positive when samples are taken by falling `values` `[samples]`.

    Equal ones come together.
    """
    order = np.argsort(-values, kind="stable")
    hits = np.cumsum(positive[order])
    is_last_of_equals = np.append(np.diff(values[order]) != 0, True)
    ends = np.flatnonzero(is_last_of_equals)
    new_hits = np.diff(hits[ends], prepend=0)
    return float((new_hits * hits[ends] / (ends + 1)).sum() / hits[-1])


def top_k_accuracy(probs: Probs, y: Labels, k: int) -> float:
    """Share of samples whose true class is among the `k` most probable.

    Of probabilities `[samples, classes]` and class indices `[samples]`. Ties go to the first
    classes.
    """
    return float(in_top(probs, y, k).mean())


def top_k_errors(probs: Probs, y: Labels, k: int) -> Losses:
    """1 for each sample whose true class is not among the `k` most probable, else 0 `[samples]`."""
    return (~in_top(probs, y, k)).astype(np.float64)


def in_top(probs: Probs, y: Labels, k: int) -> NDArray[np.bool_]:
    """Whether the true class is among the `k` most probable `[samples]`.

    Ties go to the first classes.
    """
    true_class = probs[np.arange(len(y)), y]
    above = (probs > true_class[:, None]).sum(axis=1)
    is_earlier = np.arange(probs.shape[1]) < y[:, None]
    before = ((probs == true_class[:, None]) & is_earlier).sum(axis=1)
    return np.asarray(above + before < k)
