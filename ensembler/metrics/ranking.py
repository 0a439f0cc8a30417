"""Scores that look at the order of probabilities."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def roc_auc_ovr(probs: NDArray[np.floating], y: NDArray[np.integer]) -> float:
    """Mean over classes of the area under the ROC curve of that class against the rest.

    Two classes have one area. Classes that do not occur in `y` are left out; NaN when no class has
    a rest.
    """
    classes = [1] if probs.shape[1] == 2 else range(probs.shape[1])
    areas = [area(probs[:, c], y == c) for c in classes if 0 < (y == c).sum() < len(y)]
    return float(np.mean(areas)) if areas else float("nan")


def area(values: NDArray[np.floating], positive: NDArray[np.bool_]) -> float:
    """The area under the ROC curve of `values` `[samples]`, of which some but not all are `positive`."""
    # Mann-Whitney: mean ranks of the positives, ties at their mean rank.
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    mean_rank = np.cumsum(counts) - (counts - 1) / 2
    n_positive = int(positive.sum())
    n_negative = len(positive) - n_positive
    rank_sum = mean_rank[inverse][positive].sum()
    return float((rank_sum - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative))


def average_precision(values: NDArray[np.floating], positive: NDArray[np.bool_]) -> float:
    """The mean precision at each positive when samples are taken by falling `values`.

    Equal ones come together.
    """
    order = np.argsort(-values, kind="stable")
    hits = np.cumsum(positive[order])
    ends = np.flatnonzero(
        np.append(np.diff(values[order]) != 0, True)
    )  # the last of each run of equal values
    new_hits = np.diff(hits[ends], prepend=0)
    return float((new_hits * hits[ends] / (ends + 1)).sum() / hits[-1])


def top_k_accuracy(probs: NDArray[np.floating], y: NDArray[np.integer], k: int) -> float:
    """Share of samples whose true class is among the `k` most probable.

    Ties go to the first classes.
    """
    return float(in_top(probs, y, k).mean())


def in_top(probs: NDArray[np.floating], y: NDArray[np.integer], k: int) -> NDArray[np.bool_]:
    """Whether the true class is among the `k` most probable `[samples]`.

    Ties go to the first classes.
    """
    true_class = probs[np.arange(len(y)), y]
    above = (probs > true_class[:, None]).sum(axis=1)
    before = ((probs == true_class[:, None]) & (np.arange(probs.shape[1]) < y[:, None])).sum(axis=1)
    return np.asarray(above + before < k)
