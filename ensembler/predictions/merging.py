"""Merging the views of a prediction, or the rows of a group, after the fact and without a model."""

from __future__ import annotations

from typing import Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray

from ensembler.errors import UnknownNameError
from ensembler.logits import log_odds, sigmoid, softmax

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
    logits: NDArray[np.floating],
    how: Merge = "mean",
    *,
    kind: str = "logits",
    multi_label: bool = False,
) -> NDArray[np.float32]:
    """Probabilities float32 `[samples, classes]` of `logits` `[views, samples, classes]`.

    Rows of NaN stay NaN. `mean` averages probabilities; `logits` and `geometric` are the softmax of
    the mean logits and of the mean log-probabilities, which is the same thing after normalising;
    `max` takes the largest probability of each class and renormalises. For `kind` "probs" or
    "labels" the values are probabilities already. With `multi_label` every label is an answer of
    its own: sigmoids in the place of softmax, and nothing is normalised.
    """
    if multi_label:
        return _merge_label_views(logits, how, kind)
    if kind == "logits" and (how in ("logits", "geometric") or len(logits) == 1):
        # A constant per row and view cancels in the softmax, so the mean of logits is the geometric
        # mean.
        return softmax(logits.mean(axis=0, dtype=np.float64)).astype(np.float32)
    total: NDArray[np.float64] | None = None
    for view in logits:
        probs = softmax(view) if kind == "logits" else np.asarray(view, np.float64)
        if how in ("logits", "geometric"):
            probs = np.log(np.clip(probs, 1e-7, None))
        total = (
            probs if total is None else np.maximum(total, probs) if how == "max" else total + probs
        )
    assert total is not None
    if how in ("logits", "geometric"):
        return softmax(total / len(logits)).astype(np.float32)
    return (total / total.sum(axis=-1, keepdims=True)).astype(np.float32)


def _merge_label_views(values: NDArray[np.floating], how: Merge, kind: str) -> NDArray[np.float32]:
    if how in ("logits", "geometric"):
        total = sum(
            (view.astype(np.float64) if kind == "logits" else log_odds(view)) for view in values
        )
        return sigmoid(np.asarray(total) / len(values)).astype(np.float32)
    merged: NDArray[np.float64] | None = None
    for view in values:
        probs = sigmoid(view) if kind == "logits" else np.asarray(view, np.float64)
        merged = (
            probs
            if merged is None
            else np.maximum(merged, probs)
            if how == "max"
            else merged + probs
        )
    assert merged is not None
    return (merged if how == "max" else merged / len(values)).astype(np.float32)


def merge_groups(
    probs: NDArray[np.floating],
    groups: NDArray[np.integer],
    how: Reduce,
    *,
    multi_label: bool = False,
) -> NDArray[np.float64]:
    """One row for each group `[groups, classes]`, by the group numbers `[rows]` 0, 1, 2, ...

    mean: of its rows' probabilities; vote: the share of its rows that choose a class; max: its most
    confident row. With `multi_label` a row chooses each label from 0.5, and max is taken label by
    label.
    """
    n_groups = int(groups.max()) + 1 if len(groups) else 0
    out = np.zeros((n_groups, probs.shape[1]))
    if how == "max" and multi_label:
        np.maximum.at(out, groups, probs)
        return out
    if how == "max":
        # Written in rising confidence, the first of equals last, so that it is what stays.
        order = np.lexsort((-np.arange(len(groups)), probs.max(axis=1)))
        out[groups[order]] = probs[order]
        return out
    rows = np.asarray(probs, np.float64)
    if how == "vote":
        rows = (
            (probs >= 0.5).astype(np.float64)
            if multi_label
            else np.eye(probs.shape[1])[probs.argmax(axis=1)]
        )
    np.add.at(out, groups, rows)
    merged: NDArray[np.float64] = out / np.bincount(groups, minlength=n_groups)[:, None]
    return merged
