"""Searching for a metric of the confusion matrix among the rows that a candidate can change."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ensembler.blending.pool import Stack, Targets
from ensembler.metrics.metric import Confusions, Values

_SLACK = 1e-6  # preferences are kept in float32
_AWAKE = 2_000  # rows looked at together
# probabilities of candidates and rows evaluated at a time: what fits the processor's cache
_VALUES = 160_000


class ConfusionSearch:
    """The scores of all candidates for the next round of a greedy selection, exactly.

    Adding a member changes a row's class only if it prefers another class to the leading one by at
    least the running sum's margin. Rows whose margin exceeds what any member prefers are parked:
    nobody looks at them until the leading class changes. Where a member prefers most what stands
    second, the outcome is plain; the rest is evaluated.
    """

    def __init__(
        self, stack: Stack, y: Targets, from_confusion: Callable[[Confusions], Values]
    ) -> None:
        self.score = from_confusion
        self.stack = stack
        self.y = np.asarray(y, np.int64)
        members, n, classes = stack.shape
        self.total = np.zeros((n, classes), np.float64)
        # `[rows, members]` each, so that the candidates of a row lie together.
        self.best, self.choice = _leading_classes(stack)
        # of its own best class over the leading one
        self.preference = np.empty((n, members), np.float32)
        self.strongest = np.empty(n, np.float32)
        # the leading class of each row, the one after it, and the margin between them
        self.top = np.zeros(n, np.int64)
        self.second = np.zeros(n, np.int64)
        self.margin = np.zeros(n)
        self.rounds = 0

    def values(self) -> NDArray[np.float64]:
        """The score after adding each member `[members]`."""
        members, _, classes = self.stack.shape
        size = classes * classes
        if self.rounds == 0:
            counts = np.stack(
                [
                    np.bincount(self.y * classes + c, minlength=size).astype(np.float64)
                    for c in self.choice.T
                ],
                axis=1,
            )
        else:
            standing = np.bincount(self.y * classes + self.top, minlength=size)
            counts = np.tile(standing[:, None].astype(np.float64), (1, members))
            awake = np.flatnonzero(self.strongest >= self.margin - _SLACK)
            # what is counted has a cell for each pair of classes: not for few rows
            together = max(_AWAKE, size)
            for start in range(0, len(awake), together):
                counts += self._changes(awake[start : start + together])
        return self.score(counts.T.reshape(members, classes, classes))

    def _changes(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """What changes in the confusions `[cells, members]` when each member is added."""
        from scipy.sparse import csr_array

        members, _, classes = self.stack.shape
        size, cells = classes * classes, self.y[rows] * classes
        top, second = self.top[rows], self.second[rows]
        excess = self.preference[rows] - self.margin[rows, None].astype(np.float32)
        # Prefers the second class most of all, by more than the margin: it becomes the first.
        plain = (self.choice[rows] == second[:, None].astype(self.choice.dtype)) & (
            excess > _SLACK
        )
        at, ones = np.arange(len(rows)), np.ones(len(rows), np.float32)
        moves = csr_array(
            (
                np.concatenate([ones, -ones]),
                (np.concatenate([cells + second, cells + top]), np.tile(at, 2)),
            ),
            shape=(size, len(rows)),
        )
        total = np.asarray(moves @ plain.astype(np.float32), np.float64)
        where, m = np.nonzero((excess >= -_SLACK) & ~plain)
        predicted = np.empty(len(m), np.int64)
        at_once = max(1, _VALUES // classes)
        for start in range(0, len(m), at_once):
            w, who = where[start : start + at_once], m[start : start + at_once]
            predicted[start : start + at_once] = (
                self.total[rows[w]] + self.stack[who, rows[w]]
            ).argmax(axis=1)
        if len(m):
            total += np.bincount(
                (cells[where] + predicted) * members + m, minlength=size * members
            ).reshape(size, -1)
            total -= np.bincount(
                (cells[where] + top[where]) * members + m, minlength=size * members
            ).reshape(size, -1)
        return total

    def add(self, member: int) -> None:
        """Add a member to the running sum.

        Members' preferences are renewed where the leading class changed.
        """
        self.total += self.stack[member]
        at = np.arange(len(self.total))
        top = self.total.argmax(axis=1)
        others = self.total.copy()
        others[at, top] = -np.inf
        self.second = others.argmax(axis=1)
        self.margin = self.total[at, top] - others[at, self.second]
        changed = at if self.rounds == 0 else np.flatnonzero(top != self.top)
        self.top = top
        self.rounds += 1
        for start in range(0, len(changed), _AWAKE):
            rows = changed[start : start + _AWAKE]
            self.preference[rows] = self.best[rows] - self.stack[:, rows, top[rows]].T
            self.strongest[rows] = self.preference[rows].max(axis=1)


def _leading_classes(
    stack: Stack,
) -> tuple[NDArray[np.float32], NDArray[np.int8 | np.int16]]:
    """Each member's largest probability and the class it belongs to, both `[rows, members]`.

    Ties go to the first.
    """
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
    return np.ascontiguousarray(best.T), np.ascontiguousarray(choice.T)
