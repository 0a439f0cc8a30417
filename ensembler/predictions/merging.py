"""Merging the views of a prediction, or the rows of a group, after the fact and without a model."""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce
from typing import Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray

from ensembler.errors import UnknownNameError
from ensembler.targets.kinds import SINGLE_LABEL, TargetKind

Merge = Literal["mean", "logits", "geometric", "max"]
Reduce = Literal["mean", "vote", "max"]


def check_merge(name: str) -> Merge:
    """Return `name` as a way of merging views, or raise UnknownNameError."""
    if name not in get_args(Merge):
        raise UnknownNameError("merge of views", name, get_args(Merge))
    return cast(Merge, name)


def check_reduce(name: str) -> Reduce:
    """Return `name` as a way of making the rows of a group one, or raise UnknownNameError."""
    if name not in get_args(Reduce):
        raise UnknownNameError("reduce of groups", name, get_args(Reduce))
    return cast(Reduce, name)


def merge_views(
    values: NDArray[np.floating],
    how: Merge = "mean",
    *,
    kind: str = "logits",
    of: TargetKind = SINGLE_LABEL,
) -> NDArray[np.float32]:
    """Probabilities float32 `[samples, classes]` of logits `[views, samples, classes]`.

    Rows of NaN stay NaN. `mean` averages probabilities; `logits` and `geometric` are the
    probabilities of the mean logits and of the mean log-probabilities, which is the same thing
    after normalising; `max` takes the largest probability of each class and renormalises. For
    `kind` "probs" or "labels" the values are probabilities already. `of` is the kind of the target:
    with several labels at once each label is a question of its own, and nothing is normalised.
    """
    are_logits = kind == "logits"
    if are_logits and (how in ("logits", "geometric") or len(values) == 1):
        # A constant per row and view cancels in the softmax, so the mean of logits is the geometric
        # mean.
        return of.probs(values.mean(axis=0, dtype=np.float64)).astype(np.float32)
    if how in ("logits", "geometric"):
        logits = _combined([of.logits(view) for view in values], np.add)
        return of.probs(logits / len(values)).astype(np.float32)
    views = (
        of.probs(view) if are_logits else np.asarray(view, np.float64) for view in values
    )
    if how == "max":
        return of.mean(_combined(views, np.maximum), 1).astype(np.float32)
    return of.mean(_combined(views, np.add), len(values)).astype(np.float32)


def _combined(
    views: Iterable[NDArray[np.float64]], combine: np.ufunc
) -> NDArray[np.float64]:
    return reduce(combine, views)


def merge_groups(
    probs: NDArray[np.floating],
    groups: NDArray[np.integer],
    how: Reduce,
    *,
    of: TargetKind = SINGLE_LABEL,
) -> NDArray[np.float64]:
    """One row for each group `[groups, classes]`, by the group numbers `[rows]` 0, 1, 2, ...

    mean: of its rows' probabilities; vote: the share of its rows that choose a class; max: its most
    confident row. Where a row has several labels at once (`of`), it chooses each label from 0.5,
    and max is taken label by label.
    """
    n_groups = int(groups.max()) + 1 if len(groups) else 0
    if how == "max":
        return of.most_confident(probs, groups, n_groups)
    rows = of.votes(probs) if how == "vote" else np.asarray(probs, np.float64)
    sums = np.zeros((n_groups, probs.shape[1]))
    np.add.at(sums, groups, rows)
    merged: NDArray[np.float64] = sums / np.bincount(groups, minlength=n_groups)[:, None]
    return merged
