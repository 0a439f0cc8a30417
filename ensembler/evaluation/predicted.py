"""What members and blends predict of rows whose label is known: what every score starts from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ensembler.errors import MissingFileError, UnknownNameError
from ensembler.evaluation.scores import Split
from ensembler.predictions.blends import Blend
from ensembler.predictions.members import Member
from ensembler.predictions.merging import Merge
from ensembler.predictions.store import RunStore
from ensembler.reporting.submitted import submitted_blend
from ensembler.targets.kinds import Labels
from ensembler.targets.label_sets import is_known


@dataclass(frozen=True)
class Predicted:
    """The probabilities `[n, classes]` and labels `y` of the labelled rows that one predicts.

    `rows` `[n]` are their positions among the rows of the split. Of a blend they are cross-fitted
    out of fold.
    """

    kind: Literal["member", "blend"]
    name: str
    target: str
    classes: tuple[str, ...]
    split: Split
    rows: NDArray[np.int64]
    probs: NDArray[Any]
    y: Labels
    submitted: bool = False


@dataclass(frozen=True)
class Predictors:
    """The members and blends of a run that are looked at."""

    members: tuple[Member, ...]
    blends: tuple[Blend, ...]

    @property
    def targets(self) -> list[str]:
        """The targets that any of them predicts."""
        of_members = list(chain.from_iterable(member.targets for member in self.members))
        return list(
            dict.fromkeys([*of_members, *(blend.record.target for blend in self.blends)])
        )

    def asked_targets(self, target: str | None) -> list[str]:
        """All targets that are predicted, or the one named."""
        if target is None:
            return self.targets
        if target not in self.targets:
            raise UnknownNameError("target", target, self.targets)
        return [target]


def open_predictors(store: RunStore, members: Sequence[str] | None) -> Predictors:
    """All members and blends, or the members named; MissingFileError when there is nothing."""
    names = store.complete_members if members is None else members
    blends = store.blends if members is None else []
    if not names and not store.blends:
        raise MissingFileError(
            f"run {store.name!r} has no complete member yet; `ens ls {store.name}` shows what is "
            "there"
        )
    return Predictors(tuple(map(store.member, names)), tuple(map(store.blend, blends)))


def predicted_by(
    store: RunStore,
    predictors: Predictors,
    target: str,
    merge: Merge = "mean",
    views: Sequence[str] | None = None,
) -> Iterator[Predicted]:
    """What each predicts of a target, one after the other: out of fold, then of held-out rows."""
    for member in predictors.members:
        if target in member.targets:
            yield from predicted_by_member(store, member.for_target(target), merge, views)
    for blend in predictors.blends:
        if blend.record.target == target:
            yield from predicted_by_blend(store, blend)


def predicted_by_member(
    store: RunStore,
    member: Member,
    merge: Merge,
    views: Sequence[str] | None,
    *,
    holdout: bool = True,
    y: Labels | None = None,
) -> Iterator[Predicted]:
    """What a member, opened for one target, predicts with its views merged.

    `y` are the labels of all train rows, where they are at hand.
    """
    target = member.record.target
    classes = store.classes(target)
    probs: dict[Split, NDArray[Any]] = {"oof": member.oof(classes, merge, views)}
    if holdout:
        probs["holdout"] = np.asarray(member.test(classes, merge, views)).mean(axis=0)
    for split, of_split in probs.items():
        at_hand = y if split == "oof" else None
        rows, labels = _labelled(store, target, classes, split, of_split, at_hand)
        if len(rows):
            probs_there = of_split if len(rows) == len(of_split) else of_split[rows]
            yield Predicted(
                "member", member.name, target, classes, split, rows, probs_there, labels
            )


def predicted_by_blend(store: RunStore, blend: Blend) -> Iterator[Predicted]:
    """What a blend predicts."""
    probs: dict[Split, NDArray[Any]] = {"oof": blend.oof, "holdout": blend.test}
    record = blend.record
    name, target, classes = record.name, record.target, record.classes
    is_submitted = name == submitted_blend(store)
    for split, of_split in probs.items():
        given = np.asarray(of_split)
        rows, y = _labelled(store, target, classes, split, given)
        if len(rows):
            yield Predicted(
                "blend", name, target, classes, split, rows, given[rows], y, is_submitted
            )


def _labelled(
    store: RunStore,
    target: str,
    classes: Sequence[str],
    split: Split,
    probs: NDArray[Any],
    labels: Labels | None = None,
) -> tuple[NDArray[np.int64], Labels]:
    """Positions and labels of the rows of a split that have a label and are predicted."""
    if labels is None:
        labels = store.labels(target, "train" if split == "oof" else "test", classes)
    rows = np.flatnonzero(is_known(labels) & np.isfinite(probs).all(axis=1))
    return rows, labels[rows]
