"""Members and blends of a run side by side, out of fold and on held-out rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ensembler.errors import RequestError, UnknownNameError
from ensembler.evaluation.predicted import (
    Predicted,
    Predictors,
    open_predictors,
    predicted_by_blend,
    predicted_by_member,
)
from ensembler.evaluation.scores import Evaluation, ScoreRow
from ensembler.metrics import check_metric, metric_names, score_all
from ensembler.metrics.registry import reported_score
from ensembler.predictions.blends import Blend, BlendRecord
from ensembler.predictions.members import Member
from ensembler.predictions.merging import Merge, Reduce, merge_groups
from ensembler.predictions.store import RunStore
from ensembler.targets.kinds import kind_of


class MixedGroupsError(RequestError):
    """The rows of one group have several labels of a target that is to be scored by group."""


def check_per(name: str) -> Literal["row", "group", "class"]:
    """Return `name` as what is scored, or raise UnknownNameError."""
    known: dict[str, Literal["row", "group", "class"]] = {
        "row": "row",
        "group": "group",
        "class": "class",
    }
    if name not in known:
        raise UnknownNameError("--per", name, known)
    return known[name]


@dataclass(frozen=True)
class Scoring:
    """What is scored, and how: views, further metrics, and single rows or whole groups."""

    merge: Merge = "mean"
    views: tuple[str, ...] | None = None
    by_view: bool = False
    metrics: tuple[str, ...] = ()
    per: Literal["row", "group"] = "row"
    reduce: Reduce = "mean"


def evaluate(  # noqa: PLR0913 in notebooks: a keyword for each option of `ens evaluate`
    store: RunStore,
    *,
    members: Sequence[str] | None = None,
    merge: Merge = "mean",
    views: Sequence[str] | None = None,
    by_view: bool = False,
    target: str | None = None,
    metrics: Sequence[str] | None = None,
    per: Literal["row", "group"] = "row",
    reduce: Reduce = "mean",
) -> Evaluation:
    """Score the members (all, or those named) and the blends of a run.

    `metrics` names further scores beside the usual ones. A blend's OOF row is its cross-fitted
    score, corrected for the choice among candidates where there was one; `fitted` beside it is the
    score on the rows it was fitted on. With `per` "group" the rows of a group are reduced to one;
    RequestError when their labels differ.
    """
    if per == "group" and "group" not in store.samples.table:
        raise RequestError(
            f"run {store.name!r} has no groups to score by; name their column with data.group"
        )
    scored = open_predictors(store, members)
    targets = scored.asked_targets(target)
    kept_views = None if views is None else tuple(views)
    rule = Scoring(merge, kept_views, by_view, tuple(metrics or ()), per, reduce)
    _check_metrics(store, rule, targets)
    rows = _rows_of_targets(store, scored, targets, rule)
    label = (
        store.samples.first_target([row.target for row in rows]) or store.samples.targets[0]
    )
    optimistic = tuple(member.name for member in scored.members if member.is_optimistic)
    refits = tuple(member.name for member in scored.members if member.record.refit_of)
    students = store.flattered_students
    taught = tuple(m.name for m in scored.members if m.name in students)
    return Evaluation(
        store.name, store.classes(label), tuple(rows), optimistic, refits, taught
    )


def _check_metrics(store: RunStore, rule: Scoring, targets: Sequence[str]) -> None:
    """Where all targets are of one kind, refuse metrics of another."""
    kinds = {store.kind(target) for target in targets}
    if len(kinds) == 1:
        (kind,) = kinds
        for name in rule.metrics:
            check_metric(name, of=kind)


def _rows_of_targets(
    store: RunStore, scored: Predictors, targets: Sequence[str], rule: Scoring
) -> list[ScoreRow]:
    """The scores of all targets, in the run's order of targets, members before blends.

    A target whose groups have rows of several labels is left out, unless it is the only one.
    """
    rows: list[ScoreRow] = []
    mixed: MixedGroupsError | None = None
    for target in targets:
        try:
            rows += _rows_of_target(store, scored, target, rule)
        except MixedGroupsError as error:
            mixed = error  # other targets may be shared by the rows of a group
    if mixed is not None and not rows:
        raise mixed
    order = {target: i for i, target in enumerate(store.samples.targets)}
    return sorted(rows, key=lambda row: (order.get(row.target, 0), row.kind == "blend"))


def _rows_of_target(
    store: RunStore, scored: Predictors, target: str, rule: Scoring
) -> list[ScoreRow]:
    rows: list[ScoreRow] = []
    for member in scored.members:
        if target in member.targets:
            rows += _member_rows(store, member.for_target(target), rule)
    for blend in scored.blends:
        if blend.record.target == target:
            rows += _blend_rows(store, blend, rule)
    return rows


def _member_rows(store: RunStore, member: Member, rule: Scoring) -> list[ScoreRow]:
    """The scores of a member over all its views, and of each view when that is asked."""
    rows = _scores_of_views(store, member, rule, rule.views)
    if rule.by_view:
        for view in rule.views or member.record.views:
            of_view = _scores_of_views(store, member, rule, [view])
            rows += [replace(row, view=view) for row in of_view]
    return rows


def _scores_of_views(
    store: RunStore, member: Member, rule: Scoring, views: Sequence[str] | None
) -> list[ScoreRow]:
    predicted = predicted_by_member(store, member, rule.merge, views)
    return [_scored_row(store, of_split, rule) for of_split in predicted]


def _blend_rows(store: RunStore, blend: Blend, rule: Scoring) -> list[ScoreRow]:
    """The scores of a blend; out of fold they are those of its record, which are cross-fitted."""
    rows = []
    for predicted in predicted_by_blend(store, blend):
        row = _scored_row(store, predicted, rule)
        if predicted.split == "oof" and rule.per == "row":
            row = _with_recorded_scores(row, blend.record)
        rows.append(row)
    return rows


def _scored_row(store: RunStore, predicted: Predicted, rule: Scoring) -> ScoreRow:
    n, metrics = _scores(store, predicted, rule)
    return ScoreRow(
        predicted.kind,
        predicted.name,
        predicted.target,
        predicted.split,
        n,
        metrics,
        submitted=predicted.submitted,
    )


def _with_recorded_scores(row: ScoreRow, record: BlendRecord) -> ScoreRow:
    recorded: Mapping[str, Any] = record.scores.get("cross_fitted") or {}
    fitted: dict[str, Any] | None = record.scores.get("fitted")
    return replace(row, metrics={**row.metrics, **recorded}, fitted=fitted)


def _scores(
    store: RunStore, predicted: Predicted, rule: Scoring
) -> tuple[int, dict[str, float]]:
    """How many rows or groups are scored, and their scores."""
    probs, labels = predicted.probs, predicted.y
    if rule.per == "group":
        rows = store.samples.train if predicted.split == "oof" else store.samples.test
        groups = rows["group"].iloc[predicted.rows]
        probs, labels = _by_group(predicted.target, groups, probs, labels, rule.reduce)
    found = score_all(probs, labels)
    fitting = set(metric_names(of=kind_of(labels)))
    for name in rule.metrics:
        # One that fits other targets of the run alone is not shown here.
        if name not in found and (name in fitting or name not in metric_names()):
            found[name] = reported_score(name, probs, labels)
    return len(labels), found


def _by_group(
    target: str,
    groups: pd.Series,
    probs: NDArray[Any],
    labels: NDArray[np.int64],
    reduce: Reduce,
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Probabilities and label of each group; MixedGroupsError when the labels of one differ."""
    numbers, names = pd.factorize(groups)
    first = np.full((len(names), *labels.shape[1:]), -1, np.int64)
    first[numbers[::-1]] = labels[::-1]
    differs = (first[numbers] != labels).reshape(len(labels), -1).any(axis=1)
    if differs.any():
        raise MixedGroupsError(
            f"the rows of group {names[numbers[differs][0]]!r} have several labels of {target!r}: "
            "they cannot be scored as one; --target names a target that groups share"
        )
    return merge_groups(probs, numbers, reduce, of=kind_of(labels)), first
