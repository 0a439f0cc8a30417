"""Members and blends of a run side by side, out of fold and on held-out rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ensembler.errors import MissingFileError, RequestError, UnknownNameError
from ensembler.evaluation.scores import Evaluation, ScoreRow, Split
from ensembler.metrics import check_metric, metric_names, score_all
from ensembler.metrics.registry import reported_score
from ensembler.predictions.blends import Blend, BlendRecord
from ensembler.predictions.members import Member
from ensembler.predictions.merging import Merge, Reduce, merge_groups
from ensembler.predictions.store import RunStore
from ensembler.reporting.submitted import submitted_blend
from ensembler.targets.kinds import kind_of
from ensembler.targets.label_sets import is_known


class MixedGroupsError(RequestError):
    """The rows of one group have several labels of a target that is to be scored by group."""


def check_per(name: str) -> Literal["row", "group"]:
    """Return `name` as what is scored, or raise UnknownNameError."""
    if name not in ("row", "group"):
        raise UnknownNameError("--per", name, ("row", "group"))
    return "group" if name == "group" else "row"


@dataclass(frozen=True)
class Scoring:
    """What is scored, and how: views, further metrics, and single rows or whole groups."""

    merge: Merge = "mean"
    views: tuple[str, ...] | None = None
    by_view: bool = False
    metrics: tuple[str, ...] = ()
    per: Literal["row", "group"] = "row"
    reduce: Reduce = "mean"


@dataclass(frozen=True)
class _Scored:
    """The members and blends that are scored."""

    members: tuple[Member, ...]
    blends: tuple[Blend, ...]

    @property
    def targets(self) -> list[str]:
        """The targets that any of them predicts."""
        of_members = list(chain.from_iterable(member.targets for member in self.members))
        return list(
            dict.fromkeys([*of_members, *(blend.record.target for blend in self.blends)])
        )


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
    scored = _opened(store, members)
    targets = _asked_targets(scored, target)
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


def _opened(store: RunStore, members: Sequence[str] | None) -> _Scored:
    """All members and blends, or the members named."""
    names = store.complete_members if members is None else members
    blends = store.blends if members is None else []
    if not names and not store.blends:
        raise MissingFileError(
            f"run {store.name!r} has no complete member yet; `ens ls {store.name}` shows what is "
            "there"
        )
    return _Scored(tuple(map(store.member, names)), tuple(map(store.blend, blends)))


def _asked_targets(scored: _Scored, target: str | None) -> list[str]:
    """The targets to score: all that are predicted, or the one named."""
    if target is None:
        return scored.targets
    if target not in scored.targets:
        raise UnknownNameError("target", target, scored.targets)
    return [target]


def _check_metrics(store: RunStore, rule: Scoring, targets: Sequence[str]) -> None:
    """Where all targets are of one kind, refuse metrics of another."""
    kinds = {store.kind(target) for target in targets}
    if len(kinds) == 1:
        (kind,) = kinds
        for name in rule.metrics:
            check_metric(name, of=kind)


def _rows_of_targets(
    store: RunStore, scored: _Scored, targets: Sequence[str], rule: Scoring
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
    store: RunStore, scored: _Scored, target: str, rule: Scoring
) -> list[ScoreRow]:
    rows: list[ScoreRow] = []
    for member in scored.members:
        if target in member.targets:
            rows += _member_rows(store, member.for_target(target), rule)
    submitted = submitted_blend(store)
    for blend in scored.blends:
        if blend.record.target == target:
            is_submitted = blend.record.name == submitted
            rows += _blend_rows(store, blend, rule, is_submitted=is_submitted)
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
    target = member.record.target
    classes = store.classes(target)
    test = np.asarray(member.test(classes, rule.merge, views)).mean(axis=0)
    probs: dict[Split, NDArray[Any]] = {
        "oof": member.oof(classes, rule.merge, views),
        "holdout": test,
    }
    rows = []
    for split, of_split in probs.items():
        found = _scores(store, target, classes, split, of_split, rule)
        if found is not None:
            rows.append(ScoreRow("member", member.name, target, split, *found))
    return rows


def _blend_rows(
    store: RunStore, blend: Blend, rule: Scoring, *, is_submitted: bool
) -> list[ScoreRow]:
    """The scores of a blend; out of fold they are those of its record, which are cross-fitted."""
    record, rows = blend.record, []
    probs: dict[Split, NDArray[Any]] = {"oof": blend.oof, "holdout": blend.test}
    for split, of_split in probs.items():
        given = np.asarray(of_split)
        found = _scores(store, record.target, record.classes, split, given, rule)
        if found is None:
            continue
        row = ScoreRow(
            "blend", record.name, record.target, split, *found, submitted=is_submitted
        )
        if split == "oof" and rule.per == "row":
            row = _with_recorded_scores(row, record)
        rows.append(row)
    return rows


def _with_recorded_scores(row: ScoreRow, record: BlendRecord) -> ScoreRow:
    recorded: Mapping[str, Any] = record.scores.get("cross_fitted") or {}
    fitted: dict[str, Any] | None = record.scores.get("fitted")
    return replace(row, metrics={**row.metrics, **recorded}, fitted=fitted)


def _scores(
    store: RunStore,
    target: str,
    classes: tuple[str, ...],
    split: Split,
    probs: NDArray[Any],
    rule: Scoring,
) -> tuple[int, dict[str, float]] | None:
    """How many rows of a split are scored, and their scores; None when no label is known."""
    labels = store.labels(target, "train" if split == "oof" else "test", classes)
    known = is_known(labels) & np.isfinite(probs).all(axis=1)
    if not known.any():
        return None
    probs, labels = probs[known], labels[known]
    if rule.per == "group":
        rows = store.samples.train if split == "oof" else store.samples.test
        probs, labels = _by_group(target, rows[known]["group"], probs, labels, rule.reduce)
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
