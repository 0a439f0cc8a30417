"""Searching for a metric of the confusion matrix without looking at rows that no candidate can change."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ensembler.blending.pool import Stack, Targets

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

    Adding a member changes a row's class only if it prefers another class to the leading one by more than the running
    sum's margin. With e_n the largest such preference of any member, a row whose margin exceeds e_n is decided for
    every candidate, and stays so for floor(margin / e_n) rounds at least: until then it is parked.
    """

    def __init__(self, stack: Stack, y: Targets, metric: str) -> None:
        self.score = CONFUSION_SCORES[metric]
        # Rows outside, members inside: the candidates of a row lie together.
        self.rows_first = np.ascontiguousarray(stack.transpose(1, 0, 2), dtype=np.float32)
        self.y = np.asarray(y, np.int64)
        n, _, classes = self.rows_first.shape
        self.total = np.zeros((n, classes), np.float64)
        self.top = np.zeros(n, np.int64)
        self.member_best = self.rows_first.max(axis=2)
        self.wake = np.zeros(n, np.int64)  # the round in which a row is looked at again
        self.step = 0
        self.settled = np.zeros((classes, classes))
        self.is_settled = np.zeros(n, bool)

    def values(self) -> NDArray[np.float64]:
        """The score after adding each member `[members]`."""
        members, classes = self.rows_first.shape[1:]
        open_rows = np.flatnonzero(~self.is_settled)
        counts = np.zeros(members * classes * classes)
        offset = np.arange(members) * classes * classes
        block = max(1, 2_000_000 // (members * classes))
        for start in range(0, len(open_rows), block):
            rows = open_rows[start : start + block]
            predicted = (self.total[rows][:, None, :] + self.rows_first[rows]).argmax(axis=2)
            cells = offset + self.y[rows][:, None] * classes + predicted
            counts += np.bincount(cells.ravel(), minlength=len(counts))
        confusions = counts.reshape(members, classes, classes) + self.settled
        return self.score(confusions)

    def add(self, member: int) -> None:
        """Add a member to the running sum, and park the rows that are decided now."""
        self.total += self.rows_first[:, member]
        self.step += 1
        looked_at = np.flatnonzero(~self.is_settled | (self.wake <= self.step))
        if not len(looked_at):
            return
        totals = self.total[looked_at]
        top = totals.argmax(axis=1)
        at = np.arange(len(looked_at))
        leading = totals[at, top]
        totals[at, top] = -np.inf
        margin = leading - totals.max(axis=1)
        preference = self._preference(looked_at, top)
        decided = margin > preference + 1e-9
        # Each round lowers the margin by at most `preference`, also for members that were not counted as changing it.
        rounds = np.floor(margin / np.maximum(preference, 1e-9)).astype(np.int64)
        self._unpark(looked_at)
        parked = looked_at[decided]
        self.top[parked] = top[decided]
        self.wake[parked] = self.step + np.maximum(rounds[decided], 1)
        self.is_settled[parked] = True
        np.add.at(self.settled, (self.y[parked], self.top[parked]), 1)

    def _preference(self, rows: NDArray[np.int64], top: NDArray[np.int64]) -> NDArray[np.float64]:
        of_top = np.take_along_axis(self.rows_first[rows], top[:, None, None], axis=2)[:, :, 0]
        return (self.member_best[rows] - of_top).max(axis=1).astype(np.float64)

    def _unpark(self, rows: NDArray[np.int64]) -> None:
        were = rows[self.is_settled[rows]]
        np.subtract.at(self.settled, (self.y[were], self.top[were]), 1)
        self.is_settled[were] = False
