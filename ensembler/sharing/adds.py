"""What each member of a pool would add to one's own blend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ensembler.blending.judging.comparison import compare_with_first
from ensembler.blending.make import make_blend
from ensembler.blending.pool import Pool as BlendPool
from ensembler.blending.spec import BlendSpec
from ensembler.blends.origin import DEFAULT_METRIC, metric_of
from ensembler.errors import EnsemblerError, StoreError
from ensembler.files import sweep, write_aside
from ensembler.metrics import score
from ensembler.own_code import is_own
from ensembler.predictions.arrays import open_array
from ensembler.predictions.members import MemberRecord, array_file
from ensembler.predictions.merging import merge_views
from ensembler.predictions.store import RunStore, cache_folder
from ensembler.reporting.submitted import submitted_blend
from ensembler.sharing.arrays import files_of
from ensembler.sharing.checks import reason_against
from ensembler.sharing.offers import Offer
from ensembler.sharing.pool import Listed, Pool
from ensembler.targets.label_sets import is_known

TOGETHER = "simplex"  # how one's own blend and one more member are blended
Probs = NDArray[np.floating]  # [train rows, classes]


@dataclass(frozen=True)
class Addition:
    """By how much `over` with one member beside it is better than `over`, out of fold.

    Weights and temperatures are cross-fitted and the `n` rows paired; `low` and `high` hold for all
    members that are looked at together. Positive is better.
    """

    over: str
    metric: str
    n: int
    value: float
    low: float
    high: float
    verdict: str


@dataclass(frozen=True)
class _Mine:
    """One's own best prediction: what a run submits, or else its best blend or member."""

    name: str
    target: str
    classes: tuple[str, ...]
    metric: str
    oof: Probs


def what_each_adds(
    store: RunStore, pool: Pool, members: Sequence[Listed]
) -> Mapping[str, Addition]:
    """What members of a pool would add to the blend of a run, by the sha256 of their records.

    Those that do not fit the run, that are in it already or that predict something else are left
    out, and so is all when the run has no prediction of its own yet.
    """
    mine = _mine(store)
    if mine is None:
        return {}
    labels = store.labels(mine.target, "train", mine.classes)
    rows = is_known(labels) & np.isfinite(mine.oof).all(axis=1)
    found: dict[str, Probs] = {}
    for listed in members:
        probs = _oof(store, pool, listed, mine)
        if probs is not None and np.isfinite(probs[rows]).all():
            found[listed.sha256] = probs[rows]
    if not found or not rows.any():
        return {}
    own = mine.oof[rows]
    alone = _cross_fitted(store, mine, [own], rows)
    together = [_cross_fitted(store, mine, [own, probs], rows) for probs in found.values()]
    groups = store.samples.groups()
    differences = compare_with_first(
        mine.metric,
        [alone[None], *(probs[None] for probs in together)],
        labels[rows],
        None if groups is None else groups[rows],
    )
    return {
        record: Addition(
            over=mine.name,
            metric=mine.metric,
            n=int(rows.sum()),
            value=difference.value,
            low=difference.joint_low,
            high=difference.joint_high,
            verdict=difference.verdict,
        )
        for record, difference in zip(found, differences, strict=True)
    }


def _mine(store: RunStore) -> _Mine | None:
    """The submitted blend, else the best one, else the best member, by log loss."""
    submitted = submitted_blend(store)
    names = store.blends if submitted is None else [submitted]
    found = [_of_blend(store, name) for name in names]
    if not found:
        found = [_of_member(store, name) for name in store.pool_members]
    of_label = [mine for mine in found if mine.target == store.samples.targets[0]]
    return min(of_label, key=lambda mine: _log_loss(store, mine), default=None)


def _of_blend(store: RunStore, name: str) -> _Mine:
    blend = store.blend(name)
    metric = metric_of(blend)
    record = blend.record
    return _Mine(
        name=name,
        target=record.target,
        classes=record.classes,
        metric=DEFAULT_METRIC if is_own(metric) else metric,
        oof=np.asarray(blend.oof),
    )


def _of_member(store: RunStore, name: str) -> _Mine:
    member = store.member(name)
    record = member.record
    oof = member.oof(record.classes)
    return _Mine(name, record.target, record.classes, DEFAULT_METRIC, oof)


def _log_loss(store: RunStore, mine: _Mine) -> float:
    labels = store.labels(mine.target, "train", mine.classes)
    rows = is_known(labels) & np.isfinite(mine.oof).all(axis=1)
    return score(DEFAULT_METRIC, mine.oof[rows], labels[rows]) if rows.any() else np.inf


def _oof(store: RunStore, pool: Pool, listed: Listed, mine: _Mine) -> Probs | None:
    """A member's out-of-fold probabilities in the run's classes; None where they do not fit."""
    shared = listed.shared
    record = shared.member
    targets = tuple(record.tasks) or (record.target,)
    if shared.split != store.samples_sha256 or mine.target not in targets:
        return None
    offer = Offer(
        name=shared.name,
        author=shared.author,
        record=record,
        samples=None,
        data=shared.data,
        files=shared.files,
        origin=listed.sha256,
        fetch=pool.fetch,
    )
    if reason_against(store, offer) is not None:
        return None
    file = array_file("oof", mine.target if record.tasks else None)
    try:
        logits = _cached(store, offer, file)
    except (StoreError, OSError):
        return None  # `ens pull` says what is wrong with it
    return _probs(record, logits, mine)


def _probs(record: MemberRecord, logits: NDArray[np.floating], mine: _Mine) -> Probs:
    classes = record.tasks.get(mine.target, record.classes)
    of_target = record.model_copy(update={"target": mine.target})
    probs = merge_views(logits, kind=record.kind, of=of_target.kind_of_target)
    return probs[:, [classes.index(name) for name in mine.classes]]


def _cached(store: RunStore, offer: Offer, file: str) -> NDArray[np.floating]:
    """An array of a pool, kept in the cache by its content: it never changes."""
    blob, shape = offer.files[file], files_of(offer.record, store.samples)[file]
    path = cache_folder(store.folder.parent) / "pool" / blob.sha256
    of = f"the record of {offer.name}"
    try:
        return open_array(path, shape, sha256=blob.sha256, of=of)
    except EnsemblerError:
        path.parent.mkdir(parents=True, exist_ok=True)  # not there, or cut short
    sweep(path.parent)
    with write_aside(path, size=blob.size) as into:
        offer.fetch(file, blob, into)
    return open_array(path, shape, sha256=blob.sha256, of=of)


def _cross_fitted(
    store: RunStore, mine: _Mine, stack: Sequence[Probs], rows: NDArray[np.bool_]
) -> Probs:
    """Cross-fitted probabilities of one's own blend, and of a member beside it if there is one.

    Both have a temperature, so that a member that only softens the blend adds nothing by that.
    """
    labels = store.labels(mine.target, "train", mine.classes)
    groups = store.samples.groups()
    pool = BlendPool(
        names=("mine", "other")[: len(stack)],
        oof=np.stack(stack).astype(np.float32),
        y=labels[rows],
        classes=mine.classes,
        folds=store.samples.folds()[rows],
        groups=None if groups is None else groups[rows],
    )
    method = TOGETHER if len(stack) > 1 else "single"
    spec = BlendSpec(method=method, metric=mine.metric, calibrate="temperature")
    return np.asarray(make_blend(pool, spec).oof)
