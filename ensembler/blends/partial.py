"""A blend of members that have not all their folds yet: what a run that was stopped submits.

The members that have the first k folds are blended on the rows of these folds, k being the one
whose blend does best, cross-fitted, on the rows of the first fold, which all share. Test
predictions of a member are the mean of its finished folds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ensembler.blending.make import make_blend
from ensembler.blending.pool import Pool
from ensembler.blending.result import BlendResult
from ensembler.blending.spec import BlendSpec
from ensembler.files import claim
from ensembler.metrics import is_better, score
from ensembler.predictions.store import RunStore
from ensembler.progress import QUIET, Progress
from ensembler.reporting.provisional import (
    FITTED,
    Finished,
    finished_members,
    folds_in,
    is_fitted,
    oof_of,
)
from ensembler.reporting.spec import SubmissionSpec
from ensembler.reporting.submitted import (
    Origin,
    is_as_recorded,
    make_submission,
    submitted_ids,
    write_submission,
)
from ensembler.reporting.versions import MadeOf, ScoreRecord, submission_versions
from ensembler.targets.label_sets import is_known

QUICK = "simplex"  # in the place of methods that compare many others, or need all members


@dataclass(frozen=True)
class PartialBlend:
    """A blend of the `members` that have the first `level` folds, on their `rows`."""

    level: int
    members: tuple[str, ...]
    rows: NDArray[np.int64]
    result: BlendResult


def submit_partial_blend(
    store: RunStore,
    asked: BlendSpec,
    submission: SubmissionSpec,
    *,
    target: str,
    members: Sequence[str],
    progress: Progress = QUIET,
) -> PartialBlend | None:
    """Submit a blend of what is finished where it beats what is submitted, on the common rows.

    None when there is nothing to blend, or when it does not. A blend of the store is never
    replaced.
    """
    classes = store.classes(target)
    finished = finished_members(store, members, target, classes)
    if len(finished) < 2 or not submitted_ids(store):
        return None
    found = best_partial_blend(store, asked, finished, target)
    if found is None or found.result.test is None:
        return None
    with claim(store.lock_path, wait=True):
        if not _beats_submission(store, found, finished, asked.metric, target):
            return None
        made = make_submission(store, submission, found.result.test, target, classes)
        value = (found.result.scores["cross_fitted"] or {}).get(asked.metric)
        folds = {name: folds_in(finished)[name] for name in found.members}
        made_of = MadeOf(folds=folds, method=f"{found.result.method} {FITTED}")
        origin = Origin(made_of, ScoreRecord(metric=asked.metric, value=value))
        write_submission(store, made, origin, progress=progress)
    return found


def best_partial_blend(
    store: RunStore, asked: BlendSpec, finished: Finished, target: str
) -> PartialBlend | None:
    """The best blend over levels; None where no two members share the first fold."""
    n_folds = 1 + max(fold for folds in finished.values() for fold in folds)
    labels = store.labels(target, "train")
    candidates = []
    for level in range(1, n_folds + 1):
        wanted = set(range(level))
        names = tuple(name for name, folds in finished.items() if folds.keys() >= wanted)
        if len(names) > 1:
            candidates.append(_blend(store, asked, finished, names, level, target))
    best: PartialBlend | None = None
    best_value = float("nan")
    for candidate in candidates:
        first = finished[candidate.members[0]][0].rows
        common = np.isin(candidate.rows, first)
        probs = np.asarray(candidate.result.oof)[common]
        value = score(asked.metric, probs, labels[candidate.rows[common]])
        if best is None or is_better(asked.metric, value, than=best_value):
            best, best_value = candidate, value
    return best


def _blend(
    store: RunStore,
    asked: BlendSpec,
    finished: Finished,
    names: tuple[str, ...],
    level: int,
    target: str,
) -> PartialBlend:
    labels = store.labels(target, "train")
    shared = {fold: finished[names[0]][fold].rows for fold in range(level)}
    rows = np.concatenate(list(shared.values()))
    rows = np.sort(rows[is_known(labels[rows])])
    fold_of = np.full(len(labels), -1, np.int64)
    for fold, of_fold in shared.items():
        fold_of[of_fold] = fold
    n_classes = len(store.classes(target))
    stack = [
        oof_of(finished, {name: tuple(range(level))}, len(labels), n_classes)[rows]
        for name in names
    ]
    groups = store.samples.groups()
    pool = Pool(
        names=names,
        oof=np.stack(stack).astype(np.float32),
        y=labels[rows],
        classes=store.classes(target),
        folds=fold_of[rows],
        groups=None if groups is None else groups[rows],
        test=tuple(np.stack([f.test for f in finished[name].values()]) for name in names),
    )
    result = make_blend(pool, quick_spec(asked, names))
    return PartialBlend(level, names, rows, result)


def quick_spec(asked: BlendSpec, members: Sequence[str]) -> BlendSpec:
    """The recipe's blend for some members alone, by a method that takes a moment."""
    method = QUICK if asked.method in ("auto", "weights", "stack") else asked.method
    changes = {
        "method": method,
        "members": tuple(members),
        "weights": None,
        "options": {} if method != asked.method else asked.options,
        "prune": None,
        "max_cost": None,
    }
    return asked.model_copy(update=changes)


def _beats_submission(
    store: RunStore, found: PartialBlend, finished: Finished, metric: str, target: str
) -> bool:
    """Whether a blend is better than what is submitted, on the rows that both predict."""
    versions = submission_versions(store)
    if not versions or not is_as_recorded(store):
        return True
    newest = versions[-1]
    if newest.made_of.folds is None:
        return False
    if is_fitted(newest.made_of):
        return newest.made_of.folds != {n: folds_in(finished)[n] for n in found.members}
    labels = store.labels(target, "train")
    n_classes = len(store.classes(target))
    before = oof_of(finished, newest.made_of.folds, len(labels), n_classes)
    both = np.isfinite(before[found.rows]).all(axis=1)
    if not both.any():
        return True
    rows = found.rows[both]
    now = score(metric, np.asarray(found.result.oof)[both], labels[rows])
    return is_better(metric, now, than=score(metric, before[rows], labels[rows]))
