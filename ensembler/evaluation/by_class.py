"""Members and blends class by class: precision, recall and F1 with intervals, and what is confused.

Beside the scores of `ens evaluate` stand `per_class` and `confusion` of the out-of-fold rows, which
for blends are cross-fitted, and the same of held-out rows where their labels are known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ensembler.blending.judging.shares import (
    Shares,
    share_intervals,
    share_intervals_of_groups,
)
from ensembler.evaluation.predicted import (
    Predicted,
    open_predictors,
    predicted_by,
)
from ensembler.evaluation.scores import Split
from ensembler.metrics.by_class import class_counts
from ensembler.metrics.confusion import count_confusion
from ensembler.predictions.merging import Merge
from ensembler.predictions.store import RunStore

_PAIRS = 20  # the most frequent errors that are listed


@dataclass(frozen=True)
class ClassRow:
    """How one class is told by one member or blend on one part of the rows.

    `n` rows have the class. `low` and `high` are the 95 % interval of `f1`, those of recall and
    precision are named after them. NaN where there is nothing to count: the precision of a class
    that is never given, the recall of one that never occurs.
    """

    kind: Literal["member", "blend"]
    name: str
    target: str
    split: Split
    class_name: str
    n: int
    precision: float
    recall: float
    f1: float
    low: float
    high: float
    precision_low: float
    precision_high: float
    recall_low: float
    recall_high: float

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        content = dict(self.__dict__)
        content["class"] = content.pop("class_name")
        return content


@dataclass(frozen=True)
class Confusion:
    """How often each class of a target is taken for which `[true class, predicted class]`."""

    kind: Literal["member", "blend"]
    name: str
    target: str
    split: Split
    classes: tuple[str, ...]
    counts: NDArray[np.int64]

    def worst_pairs(self, most: int = _PAIRS) -> list[tuple[str, str, int, float]]:
        """The most frequent errors: true class, predicted class, rows, share of the true class."""
        errors = self.counts.copy()
        np.fill_diagonal(errors, 0)
        n_true = self.counts.sum(axis=1)
        order = np.argsort(-errors, axis=None, kind="stable")[:most]
        pairs = []
        for true, predicted in zip(*np.unravel_index(order, errors.shape), strict=True):
            n = int(errors[true, predicted])
            if n:
                names = self.classes[true], self.classes[predicted]
                pairs.append((*names, n, n / int(n_true[true])))
        return pairs

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {
            **self.__dict__,
            "classes": list(self.classes),
            "counts": self.counts.tolist(),
        }


@dataclass(frozen=True)
class ByClass:
    """Class by class, of all members and blends.

    `groups` says whether intervals are those of whole groups. A target with several labels at once
    has no confusion matrix: `without_matrix` names it.
    """

    run: str
    rows: tuple[ClassRow, ...]
    confusions: tuple[Confusion, ...]
    submitted: str | None = None
    groups: bool = False
    without_matrix: tuple[str, ...] = ()

    def to_json(self, *, per_class: bool, confusion: bool) -> dict[str, Any]:
        """As keys of the object that `ens evaluate --json` prints."""
        content: dict[str, Any] = {}
        if per_class:
            content |= _by_split("per_class", self.rows)
        if confusion:
            content |= _by_split("confusion", self.confusions)
        return content


def _by_split(key: str, rows: Sequence[ClassRow] | Sequence[Confusion]) -> dict[str, Any]:
    """Out-of-fold rows under `key`; where there are held-out ones, these beside it."""
    content = {key: [row.to_json() for row in rows if row.split == "oof"]}
    held_out = [row.to_json() for row in rows if row.split == "holdout"]
    return content | ({f"{key}_holdout": held_out} if held_out else {})


def evaluate_by_class(
    store: RunStore,
    *,
    members: Sequence[str] | None = None,
    merge: Merge = "mean",
    views: Sequence[str] | None = None,
    target: str | None = None,
) -> ByClass:
    """Count class by class what members (all, or those named) and blends get right.

    Intervals are those of whole groups when the run has any.
    """
    predictors = open_predictors(store, members)
    rows: list[ClassRow] = []
    confusions: list[Confusion] = []
    without: list[str] = []
    submitted = None
    for name in predictors.asked_targets(target):
        for predicted in predicted_by(store, predictors, name, merge, views):
            decided = store.kind(name).decide(predicted.probs)
            rows += class_rows(predicted, decided, _units(store, predicted))
            submitted = predicted.name if predicted.submitted else submitted
            if predicted.y.ndim == 1:
                confusions.append(confusion_of(predicted, decided))
            elif name not in without:
                without.append(name)
    has_groups = "group" in store.samples.table
    return ByClass(
        store.name, tuple(rows), tuple(confusions), submitted, has_groups, tuple(without)
    )


def _units(store: RunStore, predicted: Predicted) -> NDArray[np.int64] | None:
    groups = store.samples.groups("train" if predicted.split == "oof" else "test")
    if groups is None:
        return None
    return np.unique(groups[predicted.rows], return_inverse=True)[1]


def class_rows(
    predicted: Predicted, decided: NDArray[np.int64], units: NDArray[np.int64] | None
) -> list[ClassRow]:
    """A row for each class, of decisions on the rows of `predicted`."""
    counts = class_counts(decided, predicted.y, len(predicted.classes), units)
    clustered = units is not None
    precision = _shares(counts.right, counts.given, clustered=clustered)
    recall = _shares(counts.right, counts.there, clustered=clustered)
    f1 = _shares(counts.right, counts.either, clustered=clustered).as_f1()
    n_there = counts.there.sum(axis=0)
    return [
        ClassRow(
            kind=predicted.kind,
            name=predicted.name,
            target=predicted.target,
            split=predicted.split,
            class_name=name,
            n=int(n_there[c]),
            precision=float(precision.value[c]),
            recall=float(recall.value[c]),
            f1=float(f1.value[c]),
            low=float(f1.low[c]),
            high=float(f1.high[c]),
            precision_low=float(precision.low[c]),
            precision_high=float(precision.high[c]),
            recall_low=float(recall.low[c]),
            recall_high=float(recall.high[c]),
        )
        for c, name in enumerate(predicted.classes)
    ]


def _shares(
    hits: NDArray[np.float64], trials: NDArray[np.float64], *, clustered: bool
) -> Shares:
    if clustered:
        return share_intervals_of_groups(hits, trials)
    return share_intervals(hits.sum(axis=0), trials.sum(axis=0))


def confusion_of(predicted: Predicted, decided: NDArray[np.int64]) -> Confusion:
    """The confusion matrix of decisions on the rows of `predicted`."""
    counts = count_confusion(decided, predicted.y, len(predicted.classes))
    return Confusion(
        predicted.kind,
        predicted.name,
        predicted.target,
        predicted.split,
        predicted.classes,
        counts,
    )
