"""A submission while a run still trains: of what is finished, replaced only by a better one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from ensembler.files import claim
from ensembler.metrics import is_better, score
from ensembler.predictions.composed import compose_probs
from ensembler.predictions.finished_folds import finished_folds, read_finished_fold
from ensembler.predictions.members import FAILED, Member
from ensembler.predictions.merging import merge_views
from ensembler.predictions.store import RunStore
from ensembler.progress import QUIET, Progress
from ensembler.reporting.spec import SubmissionSpec
from ensembler.reporting.submitted import (
    Origin,
    is_as_recorded,
    make_submission,
    submitted_ids,
    write_submission,
)
from ensembler.reporting.versions import MadeOf, ScoreRecord, submission_versions
from ensembler.targets.composition import Composition
from ensembler.targets.label_sets import is_known

FoldsByMember = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class FoldProbs:
    """Probabilities of one fold's checkpoint.

    `oof` `[rows, classes]` of train `rows`, and `test` `[samples, classes]`.
    """

    rows: NDArray[np.int64]
    oof: NDArray[np.floating]
    test: NDArray[np.floating]


Finished = dict[str, dict[int, FoldProbs]]  # by member and fold
# Joins the names of members whose tasks make the label together; no member's name has spaces.
_TOGETHER = " x "
FITTED = "fitted to what is finished"


def is_fitted(made_of: MadeOf) -> bool:
    """Whether a version is a blend that was fitted to finished folds, and no soft vote of them."""
    return bool(made_of.method and made_of.method.endswith(FITTED))


def renew_submission(
    store: RunStore,
    spec: SubmissionSpec,
    *,
    target: str,
    metric: str,
    members: Sequence[str],
    progress: Progress = QUIET,
) -> None:
    """Submit the soft vote of whatever is finished, unless the present version is better.

    They are compared on the rows both predict. Several processes may call this at once. The
    configured blend, once there, is not replaced.
    """
    if not submitted_ids(store):
        return
    with claim(store.lock_path, wait=True):
        classes = store.classes(target)
        finished = finished_together(store, members, target, classes)
        if not finished or not _is_wanted(store, finished, target, metric):
            return
        submission = make_submission(store, spec, _soft_vote(finished), target, classes)
        origin = _origin(store, finished, target, metric)
        write_submission(store, submission, origin, progress=progress)


def _origin(store: RunStore, finished: Finished, target: str, metric: str) -> Origin:
    folds = folds_in(finished)
    labels = store.labels(target, "train")
    oof = oof_of(finished, folds, len(labels), len(store.classes(target)))
    rows = np.isfinite(oof[:, 0]) & is_known(labels)
    value = score(metric, oof[rows], labels[rows]) if rows.any() else None
    # By itself: of so few folds an interval over rows would leave out what matters most.
    found = ScoreRecord(metric=metric, value=value)
    made_of = MadeOf(folds=folds, method="soft vote of what is finished")
    return Origin(made_of, found)


def _is_wanted(store: RunStore, finished: Finished, target: str, metric: str) -> bool:
    """Whether what is finished takes the place of the submission that is there."""
    versions = submission_versions(store)
    if not versions:
        return True
    made_of = versions[-1].made_of
    old, new = made_of.folds, folds_in(finished)
    if old is None or is_fitted(made_of):
        # A blend's stays: the run sees to it after its members.
        return not store.submission_path.is_file()
    if not is_as_recorded(store):
        return True
    if old == new:
        return False
    labels = store.labels(target, "train")
    n_classes = len(store.classes(target))
    ours, theirs = (oof_of(finished, folds, len(labels), n_classes) for folds in (new, old))
    return _is_not_worse(metric, ours, theirs, labels)


def folds_in(finished: Finished) -> FoldsByMember:
    """Which folds of each member are finished."""
    return {name: tuple(sorted(folds)) for name, folds in finished.items()}


def _soft_vote(finished: Finished) -> NDArray[np.floating]:
    """The mean of the members' test probabilities `[test samples, classes]`.

    A member's are the mean of its folds.
    """
    of_members = [
        np.mean([fold.test for fold in folds.values()], axis=0)
        for folds in finished.values()
    ]
    return np.mean(of_members, axis=0)


def _is_not_worse(
    metric: str,
    ours: NDArray[np.floating],
    theirs: NDArray[np.floating],
    labels: NDArray[np.int64],
) -> bool:
    """Whether our out-of-fold probabilities score at least as well as theirs on common rows."""
    both = np.isfinite(ours[:, 0]) & np.isfinite(theirs[:, 0]) & is_known(labels)
    if not both.any():
        return True
    now = score(metric, ours[both], labels[both])
    before = score(metric, theirs[both], labels[both])
    return now == before or is_better(metric, now, before)


def oof_of(
    finished: Finished, folds_by_member: FoldsByMember, n_rows: int, n_classes: int
) -> NDArray[np.float64]:
    """The mean of the out-of-fold probabilities `[train rows, classes]` of some folds.

    NaN = none of them.
    """
    total, count = np.zeros((n_rows, n_classes)), np.zeros((n_rows, 1))
    for name, folds in folds_by_member.items():
        of_member = finished.get(name, {})
        for probs in (of_member[fold] for fold in folds if fold in of_member):
            total[probs.rows] += probs.oof
            count[probs.rows] += 1
    return np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)


def finished_members(
    store: RunStore, members: Sequence[str], target: str, classes: tuple[str, ...]
) -> Finished:
    """What is finished of each member in one target, as probabilities."""
    finished = {name: _finished_folds(store, name, target, classes) for name in members}
    return {name: folds for name, folds in finished.items() if folds}


def finished_together(
    store: RunStore, members: Sequence[str], target: str, classes: tuple[str, ...]
) -> Finished:
    """What is finished of each member in a target, and of a composed label what its tasks make.

    A name that stands for the members of tasks together counts as those members.
    """
    each = chain.from_iterable(name.split(_TOGETHER) for name in members)
    names = tuple(dict.fromkeys(each))
    finished = finished_members(store, names, target, classes)
    if store.composition is not None and target == store.composition.name:
        finished |= _finished_tasks(store, names, store.composition)
    return finished


def _finished_tasks(
    store: RunStore, members: Sequence[str], composition: Composition
) -> Finished:
    """What the folds that are finished in every task make together, under one name."""
    by_task = {
        task: finished_members(store, members, task, store.classes(task))
        for task in composition.tasks
    }
    everywhere = set.intersection(*(_all_folds(found) for found in by_task.values()))
    folds = {fold: _composed_fold(store, by_task, fold) for fold in sorted(everywhere)}
    names = dict.fromkeys(chain.from_iterable(by_task.values()))
    return {_TOGETHER.join(names): folds} if folds else {}


def _all_folds(finished: Finished) -> set[int]:
    return set(chain.from_iterable(finished.values()))


def _composed_fold(
    store: RunStore, by_task: Mapping[str, Finished], fold: int
) -> FoldProbs:
    """The label's probabilities from the mean of each task's members that finished the fold."""
    found = {
        task: [folds[fold] for folds in finished.values() if fold in folds]
        for task, finished in by_task.items()
    }
    oof = {
        task: np.mean([p.oof for p in probs_of_task], axis=0)
        for task, probs_of_task in found.items()
    }
    test = {
        task: np.mean([p.test for p in probs_of_task], axis=0)
        for task, probs_of_task in found.items()
    }
    rows = next(iter(found.values()))[0].rows
    return FoldProbs(rows, compose_probs(store, oof), compose_probs(store, test))


def _finished_folds(
    store: RunStore, name: str, target: str, classes: tuple[str, ...]
) -> dict[int, FoldProbs]:
    if name in store.complete_members:
        member = store.member(name)
        return (
            _folds_of(member.for_target(target), classes)
            if target in member.targets
            else {}
        )
    folder = store.member_folder(name)
    if not folder.is_dir() or (folder / FAILED).is_file():
        return {}
    n_folds = int(store.samples.table["fold"].max()) + 1
    folds = {}
    for fold in finished_folds(folder, n_folds):
        finished = read_finished_fold(folder, fold)
        task_slice = dict(finished.record.get("tasks") or {}).get(target)
        if task_slice is not None:
            columns = slice(*task_slice)
            oof = merge_views(finished.oof[..., columns], of=store.kind(target))
            test = merge_views(finished.test[..., columns], of=store.kind(target))
            folds[fold] = FoldProbs(finished.rows, oof, test)
    return folds


def _folds_of(member: Member, classes: tuple[str, ...]) -> dict[int, FoldProbs]:
    oof, test = member.oof(classes), member.test(classes)
    folds = {}
    for fold in range(member.record.folds):
        rows = np.flatnonzero(member.folds == fold)
        folds[fold] = FoldProbs(rows, oof[rows], test[fold])
    return folds
