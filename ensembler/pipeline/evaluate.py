"""Members and blends of a run side by side, out of fold and on held-out rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ensembler.errors import MissingFileError
from ensembler.metrics import score, score_all
from ensembler.pipeline.submission import submitted_blend
from ensembler.predictions.blends import Blend
from ensembler.predictions.members import Member
from ensembler.predictions.merging import Merge
from ensembler.predictions.store import RunStore


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
    """All scores of a run."""

    run: str
    classes: tuple[str, ...]
    rows: tuple[ScoreRow, ...] = field(default_factory=tuple)

    def to_json(self) -> dict[str, Any]:
        """As the object that `ens evaluate --json` prints."""
        return {"run": self.run, "classes": list(self.classes), "rows": [row.to_json() for row in self.rows]}


def evaluate(
    store: RunStore,
    *,
    members: Sequence[str] | None = None,
    merge: Merge = "mean",
    views: Sequence[str] | None = None,
    by_view: bool = False,
    metrics: Sequence[str] | None = None,
) -> Evaluation:
    """Score the members (all, or those named) and the blends of a run.

    `metrics` names further scores beside the usual ones. A blend's OOF row is its cross-fitted score, corrected for the
    choice among candidates where there was one; `fitted` beside it is the score on the rows it was fitted on.
    """
    names = list(members) if members is not None else store.complete_members
    if not names and not store.blends:
        raise MissingFileError(
            f"run {store.name!r} has no complete member yet; `ens ls {store.name}` shows what is there"
        )
    more = list(metrics or ())
    rows: list[ScoreRow] = []
    for name in names:
        member = store.member(name)
        for target in member.targets:
            rows += _member_rows(store, member.for_target(target), merge, views, by_view, more)
    for name in store.blends if members is None else ():
        rows += _blend_rows(store, store.blend(name), more)
    found = {row.target for row in rows}
    label = next((t for t in store.samples.targets if t in found), store.samples.targets[0])
    order = {target: i for i, target in enumerate(store.samples.targets)}
    rows.sort(key=lambda row: (order.get(row.target, 0), row.kind == "blend"))
    return Evaluation(store.name, store.classes(label), tuple(rows))


def _member_rows(
    store: RunStore, member: Member, merge: Merge, views: Sequence[str] | None, by_view: bool, more: Sequence[str]
) -> list[ScoreRow]:
    rows = _scored_member(store, member, merge, views, None, more)
    if by_view:
        for view in views or member.record.views:
            rows += _scored_member(store, member, merge, [view], view, more)
    return rows


def _scored_member(
    store: RunStore,
    member: Member,
    merge: Merge,
    views: Sequence[str] | None,
    view: str | None,
    more: Sequence[str],
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
        found = _scores(store, target, classes, split, probs, more)
        if found is not None:
            rows.append(ScoreRow("member", member.name, target, split, found[0], found[1], view=view))
    return rows


def _blend_rows(store: RunStore, blend: Blend, more: Sequence[str]) -> list[ScoreRow]:
    target, classes = blend.record.target, blend.record.classes
    submitted = submitted_blend(store) == blend.record.name
    rows = []
    parts: list[tuple[Literal["oof", "holdout"], NDArray[Any]]] = [("oof", blend.oof), ("holdout", blend.test)]
    for split, probs in parts:
        found = _scores(store, target, classes, split, np.asarray(probs), more)
        if found is not None:
            fitted = blend.record.scores.get("fitted") if split == "oof" else None
            if split == "oof":
                found = (found[0], found[1] | (blend.record.scores.get("cross_fitted") or {}))
            rows.append(ScoreRow("blend", blend.record.name, target, split, *found, submitted=submitted, fitted=fitted))
    return rows


def _scores(
    store: RunStore, target: str, classes: tuple[str, ...], split: str, probs: NDArray[Any], more: Sequence[str]
) -> tuple[int, dict[str, float]] | None:
    labels = store.samples.labels(target, classes, "train" if split == "oof" else "test")
    known = (labels >= 0) & np.isfinite(probs).all(axis=1)
    if not known.any():
        return None
    found = score_all(probs[known], labels[known])
    found |= {name: score(name, probs[known], labels[known]) for name in more if name not in found}
    return int(known.sum()), found
