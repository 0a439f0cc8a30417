"""From the store to a pool: the members' predictions, aligned by sample id and class name, ready to blend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ensembler.blending.pool import Pool
from ensembler.errors import MissingFileError, RequestError
from ensembler.predictions.members import Member
from ensembler.predictions.merging import Merge
from ensembler.predictions.store import RunStore


@dataclass(frozen=True)
class StorePool:
    """A pool and the train rows (positions among them) that it holds."""

    pool: Pool
    rows: NDArray[np.int64]
    target: str


def read_pool(
    store: RunStore,
    members: Sequence[str] | None = None,
    *,
    target: str | None = None,
    merge: Merge = "mean",
    views: Sequence[str] | None = None,
    common_rows: bool = False,
) -> StorePool:
    """Read the complete members (all of the target's, or those named) as one pool.

    Rows that no member predicts (never validated, unlabelled) are left out. A row that only some predict is an
    error unless `common_rows`.
    """
    opened = _open_members(store, members, target)
    target = opened[0].record.target
    classes = store.classes(target)
    labels = store.samples.labels(target, classes, "train")
    oof = [member.oof(classes, merge, views) for member in opened]
    rows = _rows(store, opened, oof, labels, common_rows)
    test_labels = store.samples.labels(target, classes, "test")
    has_test = len(test_labels) > 0
    groups = store.samples.groups()
    pool = Pool(
        names=tuple(member.name for member in opened),
        oof=np.stack([probs[rows] for probs in oof]),
        y=labels[rows],
        classes=classes,
        folds=opened[0].folds[rows],
        groups=None if groups is None else groups[rows],
        test=tuple(np.asarray(member.test(classes, merge, views)) for member in opened) if has_test else None,
        test_y=test_labels if has_test else None,
    )
    return StorePool(pool, rows, target)


def _open_members(store: RunStore, members: Sequence[str] | None, target: str | None) -> list[Member]:
    names = list(members) if members is not None else store.complete_members
    opened = [store.member(name) for name in names]
    if members is None and opened:
        wanted = target or _label_target(store)
        opened = [member for member in opened if member.record.target == wanted]
    if not opened:
        begun = store.begun_members
        hint = f"; {', '.join(begun)} are not complete yet" if begun else ""
        raise MissingFileError(f"run {store.name!r} has no complete member to blend{hint}")
    targets = {member.record.target for member in opened}
    if len(targets) > 1:
        raise RequestError(f"members of several targets cannot be blended: {', '.join(sorted(targets))}")
    return opened


def _label_target(store: RunStore) -> str:
    targets = {store.member(name).record.target for name in store.complete_members}
    return next((t for t in store.samples.targets if t in targets), next(iter(targets)))


def _rows(
    store: RunStore,
    members: Sequence[Member],
    oof: Sequence[NDArray[np.floating]],
    labels: NDArray[np.int64],
    common_rows: bool,
) -> NDArray[np.int64]:
    predicted = np.stack([np.isfinite(probs).all(axis=1) for probs in oof])
    everywhere = predicted.all(axis=0) & (labels >= 0)
    partly = predicted.any(axis=0) & ~predicted.all(axis=0) & (labels >= 0)
    if partly.any() and not common_rows:
        lacking = members[int((~predicted[:, partly]).any(axis=1).argmax())].name
        raise RequestError(
            f"member {lacking!r} has no prediction for {int(partly.sum())} of the rows that others predict; "
            "--common-rows blends on the rows that all of them predict"
        )
    if not everywhere.any():
        raise RequestError(f"no labelled train row of run {store.name!r} is predicted by all of its members")
    return np.flatnonzero(everywhere).astype(np.int64)
