"""Searching for a metric of the confusion matrix without looking at rows that no candidate can change."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ensembler.blending.pool import Stack, Targets

_SLACK = 1e-6  # preferences are kept in float32
_PAIRS = 16_000  # candidates and rows evaluated at a time: what fits the processor's cache

Confusions = NDArray[np.float64]  # [candidates, true class, predicted class]


def _accuracy(confusions: Confusions) -> NDArray[np.float64]:
    return np.einsum("mcc->m", confusions) / confusions.sum(axis=(1, 2))


def _balanced_accuracy(confusions: Confusions) -> NDArray[np.float64]:
    support = confusions.sum(axis=2)
    recall = np.einsum("mcc->mc", confusions) / np.maximum(support, 1)
    return recall.sum(axis=1) / (support > 0).sum(axis=1)


def _f1_macro(confusions: Confusions) -> NDArray[np.float64]:
    either = confusions.sum(axis=1) + confusions.sum(axis=2)
    f1 = 2 * np.einsum("mcc->mc", confusions) / np.maximum(either, 1)
    return f1.sum(axis=1) / (either > 0).sum(axis=1)


def _cohen_kappa(confusions: Confusions) -> NDArray[np.float64]:
    index = np.arange(confusions.shape[1])
    weights = (index[:, None] - index[None, :]) ** 2
    n = confusions.sum(axis=(1, 2))
    expected = np.einsum("mt,mp->mtp", confusions.sum(axis=2), confusions.sum(axis=1)) / n[:, None, None]
    by_chance = (weights * expected).sum(axis=(1, 2))
    disagreement = (weights * confusions).sum(axis=(1, 2))
    return np.where(by_chance > 0, 1 - disagreement / np.where(by_chance > 0, by_chance, 1), 0.0)


CONFUSION_SCORES: dict[str, Callable[[Confusions], NDArray[np.float64]]] = {
    "accuracy": _accuracy,
    "balanced_accuracy": _balanced_accuracy,
    "f1_macro": _f1_macro,
    "cohen_kappa": _cohen_kappa,
}


class ConfusionSearch:
    """The scores of all candidates for the next round of a greedy selection, exactly.

    Adding a member changes a row's class only if it prefers another class to the leading one by at least the running
    sum's margin. Rows whose margin exceeds what any member prefers are parked: nobody looks at them until the leading
    class changes. Of the others only those candidates are evaluated that prefer strongly enough.
    """

    def __init__(self, stack: Stack, y: Targets, metric: str) -> None:
        self.score = CONFUSION_SCORES[metric]
        self.stack = stack
        self.y = np.asarray(y, np.int64)
        members, n, classes = stack.shape
        self.total = np.zeros((n, classes), np.float64)
        self.best, self.choice = _leading_classes(stack)
        self.preference = np.empty((members, n), np.float32)  # of its own best class over the leading one
        self.strongest = np.empty(n, np.float32)
        self.top: NDArray[np.int64] | None = None  # the leading class of each row; None before the first round
        self.margin = np.zeros(n)

    def values(self) -> NDArray[np.float64]:
        """The score after adding each member `[members]`."""
        members, _, classes = self.stack.shape
        if self.top is None:
            cells = self.y * classes + self.choice
            counts = np.stack([np.bincount(row, minlength=classes * classes) for row in cells])
            return self.score(counts.reshape(members, classes, classes).astype(np.float64))
        standing = np.bincount(self.y * classes + self.top, minlength=classes * classes)
        confusions = np.tile(standing.astype(np.float64), (members, 1))
        awake = np.flatnonzero(self.strongest >= self.margin - _SLACK)
        who, where = np.nonzero(self.preference[:, awake] >= (self.margin[awake] - _SLACK).astype(np.float32))
        rows = awake[where]
        for start in range(0, len(rows), _PAIRS):
            m, n = who[start : start + _PAIRS], rows[start : start + _PAIRS]
            predicted = (self.total[n] + self.stack[m, n]).argmax(axis=1)
            changed = predicted != self.top[n]
            m, n, predicted = m[changed], n[changed], predicted[changed]
            true = self.y[n] * classes
            size = confusions.size
            flat = m * classes * classes
            gained = np.bincount(flat + true + predicted, minlength=size)
            lost = np.bincount(flat + true + self.top[n], minlength=size)
            confusions += (gained - lost).reshape(confusions.shape)
        return self.score(confusions.reshape(members, classes, classes))

    def add(self, member: int) -> None:
        """Add a member to the running sum; members' preferences are renewed where the leading class changed."""
        self.total += self.stack[member]
        at = np.arange(len(self.total))
        top = self.total.argmax(axis=1)
        others = self.total.copy()
        others[at, top] = -np.inf
        self.margin = self.total[at, top] - others.max(axis=1)
        changed = at if self.top is None else np.flatnonzero(top != self.top)
        self.top = top
        if len(changed) < len(at) // 10:
            self.preference[:, changed] = self.best[:, changed] - self.stack[:, changed, top[changed]]
        else:
            for m, probs in enumerate(self.stack):
                self.preference[m, changed] = self.best[m, changed] - probs[changed, top[changed]]
        self.strongest[changed] = self.preference[:, changed].max(axis=0)


def _leading_classes(stack: Stack) -> tuple[NDArray[np.float32], NDArray[np.int8 | np.int16]]:
    """Each member's largest probability and the class it belongs to, both `[members, rows]`; ties go to the first."""
    members, n, classes = stack.shape
    best = np.empty((members, n), np.float32)
    choice = np.zeros((members, n), np.int8 if classes < 128 else np.int16)
    for m, probs in enumerate(stack):
        # Class by class over all rows: many times faster than an argmax over a short last axis.
        by_class = np.ascontiguousarray(probs.T, dtype=np.float32)
        best[m] = by_class[0]
        for c in range(1, classes):
            choice[m][by_class[c] > best[m]] = c
            np.maximum(best[m], by_class[c], out=best[m])
    return best, choice
