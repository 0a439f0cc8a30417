"""Members and blends of a run side by side, out of fold and on held-out rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ensembler.errors import MissingFileError, RequestError, UnknownNameError
from ensembler.metrics import check_metric, metric_names, score_all
from ensembler.metrics.registry import reported_score
from ensembler.predictions.blends import Blend
from ensembler.predictions.members import Member
from ensembler.predictions.merging import Merge, Reduce, merge_groups
from ensembler.predictions.store import RunStore
from ensembler.reporting.submitted import submitted_blend
from ensembler.targets.kinds import kind_of
from ensembler.targets.label_sets import is_known


@dataclass(frozen=True)
class ScoreRow:
    """The scores of one member or blend on one part of the rows."""

    kind: Literal["member", "blend"]
    name: str
    target: str
    split: Literal["oof", "holdout"]
    n: int
    metrics: dict[str, float]
    submitted: bool = False
    view: str | None = None
    fitted: dict[str, float] | None = None

    def to_json(self) -> dict[str, Any]:
        """As plain values; keys that say nothing are left out."""
        optional = {"view": self.view, "fitted": self.fitted}
        content = {k: v for k, v in self.__dict__.items() if k not in optional}
        return content | {k: v for k, v in optional.items() if v is not None}


@dataclass(frozen=True)
class Evaluation:
    """All scores of a run.

    `flattered` names members whose training was chosen by the rows they are scored on.
    """

    run: str
    classes: tuple[str, ...]
    rows: tuple[ScoreRow, ...] = field(default_factory=tuple)
    flattered: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As the object that `ens evaluate --json` prints."""
        rows = [row.to_json() for row in self.rows]
        return {
            "run": self.run,
            "classes": list(self.classes),
            "rows": rows,
            "flattered": list(self.flattered),
        }


class MixedGroupsError(RequestError):
    """The rows of one group have several labels of a target that is to be scored by group."""


def check_per(name: str) -> Literal["row", "group"]:
    """Return `name` as what is scored, or raise UnknownNameError."""
    if name not in ("row", "group"):
        raise UnknownNameError("--per", name, ("row", "group"))
    return "group" if name == "group" else "row"


@dataclass(frozen=True)
class Scoring:
    """What is scored: further metrics, and single rows or whole groups."""

    metrics: tuple[str, ...] = ()
    per: Literal["row", "group"] = "row"
    reduce: Reduce = "mean"


def evaluate(
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
    rule = Scoring(tuple(metrics or ()), per, reduce)
    names = list(members) if members is not None else store.complete_members
    if not names and not store.blends:
        raise MissingFileError(
            f"run {store.name!r} has no complete member yet; `ens ls {store.name}` shows what is "
            "there"
        )
    rows: list[ScoreRow] = []
    opened = [store.member(name) for name in names]
    blends = [store.blend(name) for name in (store.blends if members is None else ())]
    targets = dict.fromkeys(
        [t for member in opened for t in member.targets] + [b.record.target for b in blends]
    )
    if target is not None and target not in targets:
        raise UnknownNameError("target", target, list(targets))
    kinds = {store.kind(each) for each in (targets if target is None else [target])}
    for name in rule.metrics if len(kinds) == 1 else ():
        check_metric(name, of=next(iter(kinds)))
    mixed: MixedGroupsError | None = None
    submitted = submitted_blend(store)
    for each in targets if target is None else [target]:
        try:
            for member in opened:
                if each in member.targets:
                    rows += _member_rows(
                        store, member.for_target(each), merge, views, by_view, rule
                    )
            for blend in blends:
                if each == blend.record.target:
                    rows += _blend_rows(
                        store, blend, rule, is_submitted=blend.record.name == submitted
                    )
        except MixedGroupsError as error:
            mixed = error  # other targets may be shared by the rows of a group
    if mixed is not None and not rows:
        raise mixed
    found = [row.target for row in rows]
    label = store.samples.first_target(found) or store.samples.targets[0]
    order = {target: i for i, target in enumerate(store.samples.targets)}
    rows.sort(key=lambda row: (order.get(row.target, 0), row.kind == "blend"))
    flattered = tuple(member.name for member in opened if member.is_flattered)
    return Evaluation(store.name, store.classes(label), tuple(rows), flattered)


def _member_rows(
    store: RunStore,
    member: Member,
    merge: Merge,
    views: Sequence[str] | None,
    by_view: bool,
    rule: Scoring,
) -> list[ScoreRow]:
    rows = _scored_member(store, member, merge, views, None, rule)
    if by_view:
        for view in views or member.record.views:
            rows += _scored_member(store, member, merge, [view], view, rule)
    return rows


def _scored_member(
    store: RunStore,
    member: Member,
    merge: Merge,
    views: Sequence[str] | None,
    view: str | None,
    rule: Scoring,
) -> list[ScoreRow]:
    target = member.record.target
    classes = store.classes(target)
    test = np.asarray(member.test(classes, merge, views)).mean(axis=0)
    parts: list[tuple[Literal["oof", "holdout"], NDArray[Any]]] = [
        ("oof", member.oof(classes, merge, views)),
        ("holdout", test),
    ]
    rows = []
    for split, probs in parts:
        found = _scores(store, target, classes, split, probs, rule)
        if found is not None:
            rows.append(
                ScoreRow("member", member.name, target, split, found[0], found[1], view=view)
            )
    return rows


def _blend_rows(
    store: RunStore, blend: Blend, rule: Scoring, *, is_submitted: bool
) -> list[ScoreRow]:
    target, classes = blend.record.target, blend.record.classes
    rows = []
    parts: list[tuple[Literal["oof", "holdout"], NDArray[Any]]] = [
        ("oof", blend.oof),
        ("holdout", blend.test),
    ]
    for split, probs in parts:
        found = _scores(store, target, classes, split, np.asarray(probs), rule)
        if found is not None:
            kept = split == "oof" and rule.per == "row"
            fitted = blend.record.scores.get("fitted") if kept else None
            if kept:
                cross_fitted: Mapping[str, Any] = blend.record.scores.get("cross_fitted") or {}
                found = (found[0], {**found[1], **cross_fitted})
            facts: dict[str, Any] = {"submitted": is_submitted, "fitted": fitted}
            rows.append(ScoreRow("blend", blend.record.name, target, split, *found, **facts))
    return rows


def _scores(
    store: RunStore,
    target: str,
    classes: tuple[str, ...],
    split: str,
    probs: NDArray[Any],
    rule: Scoring,
) -> tuple[int, dict[str, float]] | None:
    labels = store.labels(target, "train" if split == "oof" else "test", classes)
    known = is_known(labels) & np.isfinite(probs).all(axis=1)
    if not known.any():
        return None
    probs, labels = probs[known], labels[known]
    if rule.per == "group":
        probs, labels = _by_group(store, target, split, known, probs, labels, rule.reduce)
    found = score_all(probs, labels)
    fitting = set(metric_names(of=kind_of(labels)))
    for name in rule.metrics:
        # One that fits other targets of the run alone is not shown here.
        if name not in found and (name in fitting or name not in metric_names()):
            found[name] = reported_score(name, probs, labels)
    return len(labels), found


def _by_group(
    store: RunStore,
    target: str,
    split: str,
    known: NDArray[np.bool_],
    probs: NDArray[Any],
    labels: NDArray[np.int64],
    reduce: Reduce,
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    rows = (store.samples.train if split == "oof" else store.samples.test)[known]
    numbers, names = pd.factorize(rows["group"])
    first = np.full((len(names), *labels.shape[1:]), -1, np.int64)
    first[numbers[::-1]] = labels[::-1]
    differs = (first[numbers] != labels).reshape(len(labels), -1).any(axis=1)
    if differs.any():
        raise MixedGroupsError(
            f"the rows of group {names[numbers[differs][0]]!r} have several labels of {target!r}: "
            "they cannot be "
            "scored as one; --target names a target that groups share"
        )
    return merge_groups(probs, numbers, reduce, of=kind_of(labels)), first
