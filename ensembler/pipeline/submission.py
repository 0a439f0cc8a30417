"""The submission of a run: there from the first finished fold on, and only ever replaced by a better one."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ensembler.errors import RequestError, StoreError
from ensembler.files import claim, read_json, sha256_of, write_bytes, write_json
from ensembler.label_sets import is_known
from ensembler.metrics import is_better, score
from ensembler.pipeline.task_product import compose_probs
from ensembler.predictions.finished_folds import finished_folds, read_finished_fold
from ensembler.predictions.members import Member
from ensembler.predictions.merging import merge_groups, merge_views
from ensembler.predictions.store import RunStore
from ensembler.reporting.spec import SubmissionSpec
from ensembler.reporting.submission import submission_table

Composition = dict[str, list[int]]  # member -> its folds


@dataclass(frozen=True)
class FoldProbs:
    """Probabilities of one fold's checkpoint: `oof` `[rows, classes]` of train `rows`, `test` `[samples, classes]`."""

    rows: NDArray[np.int64]
    oof: NDArray[np.floating]
    test: NDArray[np.floating]


def check_submission(store: RunStore, spec: SubmissionSpec, target: str, classes: tuple[str, ...]) -> None:
    """Raise RequestError now when the submission could not be written later: columns or template do not fit."""
    if _submitted_ids(store):
        _table(store, spec, np.full((len(store.samples.test), len(classes)), 1 / len(classes)), target, classes)


def _submitted_ids(store: RunStore) -> list[str]:
    return store.samples.test["id"][store.samples.to_submit].tolist()


def _table(
    store: RunStore, spec: SubmissionSpec, test: NDArray[np.floating], target: str, classes: tuple[str, ...]
) -> pd.DataFrame:
    """The submission of probabilities `test` `[test samples, classes]`, a row for each sample or each group."""
    set_format = store.set_formats.get(target)
    ids, probs = _submitted_ids(store), np.asarray(test)[store.samples.to_submit]
    if spec.per == "group":
        names, numbers = _submitted_groups(store)
        together = merge_groups(probs, numbers, spec.reduce, multi_label=set_format is not None)
        ids, probs = (ids, together[numbers]) if spec.each else (names, together)
    return submission_table(ids, probs, classes, spec, set_format)


def _submitted_groups(store: RunStore) -> tuple[list[str], NDArray[np.int64]]:
    """The groups of the submitted rows in the order in which they come, and each row's number among them."""
    rows = store.samples.test[store.samples.to_submit]
    if "group" not in rows or (rows["group"].fillna("") == "").any():
        raise RequestError(
            "submission.per: group needs the group of every submitted row; name the column with data.group, and see "
            "that the table of data.test has it"
        )
    numbers, names = pd.factorize(rows["group"])
    return [str(name) for name in names], np.asarray(numbers, np.int64)


def write_submission(
    store: RunStore,
    spec: SubmissionSpec,
    test: NDArray[np.floating],
    target: str,
    classes: tuple[str, ...],
    made_of: Mapping[str, Any],
    *,
    by_hand: bool = False,
) -> bool:
    """Write `submission.csv` from probabilities `test` `[test samples, classes]` of a target, and note what made it.

    `by_hand` says that it was asked for by name, so that a run that makes nothing new leaves it alone. Returns False,
    and writes nothing, when the run has no rows to submit.
    """
    if not _submitted_ids(store):
        return False
    table = _table(store, spec, test, target, classes)
    content = table.to_csv(index=False, lineterminator="\n").encode()
    digest = hashlib.sha256(content).hexdigest()
    versions = submission_versions(store)
    last = versions[-1] if versions and store.submission_path.is_file() else {}
    version = {"sha256": digest, "rows": len(table), "made_of": dict(made_of), **({"by_hand": True} if by_hand else {})}
    if last == version:
        return True
    versions.append(version)
    # The record comes first: it may name a version that never arrived, but no file is without its record.
    write_json(store.folder / "submission.json", {"format": 1, "versions": versions})
    write_bytes(store.submission_path, content)
    return True


def submission_versions(store: RunStore) -> list[dict[str, Any]]:
    """What each version of the submission was made of, the newest last."""
    path = store.folder / "submission.json"
    if not path.is_file():
        return []
    versions = read_json(path).get("versions")
    if not isinstance(versions, list) or not all(isinstance(v, dict) and "made_of" in v for v in versions):
        raise StoreError(f"{path} does not list the versions of the submission; remove it, `ens run` writes it again")
    return versions


def chosen_by_hand(store: RunStore) -> str | None:
    """The blend that the submission was made of by hand, when it lies there as it was made."""
    versions = submission_versions(store)
    if not versions or not versions[-1].get("by_hand") or not store.submission_path.is_file():
        return None
    same = sha256_of(store.submission_path) == versions[-1]["sha256"]
    return submitted_blend(store) if same else None


def submitted_blend(store: RunStore) -> str | None:
    """The name of the blend that the submission was made of, when it was one."""
    for version in reversed(submission_versions(store)):
        name = version["made_of"].get("blend")
        return name if isinstance(name, str) and name in store.blends else None
    return None


def renew_submission(store: RunStore, spec: SubmissionSpec, *, target: str, metric: str, members: list[str]) -> None:
    """Submit the soft vote of whatever is finished, unless the version there is better on the rows both predict.

    Several processes may call this at once. The configured blend, once there, is not replaced.
    """
    if not _submitted_ids(store):
        return
    with claim(store.lock_path, wait=True):
        classes = store.classes(target)
        finished = _finished_of(store, members, target, classes)
        if store.composition is not None and target == store.composition.name:
            finished |= _finished_tasks(store, members)
        if not finished:
            return
        new: Composition = {name: sorted(folds) for name, folds in finished.items()}
        versions = submission_versions(store)
        old = versions[-1]["made_of"].get("folds") if versions else None
        labels = store.labels(target, "train", classes)
        if versions and store.submission_path.is_file():
            if not isinstance(old, dict) or old == new:
                return
            if not _not_worse(finished, new, old, labels, metric, len(classes)):
                return
        test = np.mean([np.mean([f.test for f in folds.values()], axis=0) for folds in finished.values()], axis=0)
        write_submission(store, spec, test, target, classes, {"folds": new, "method": "soft vote of what is finished"})


def _not_worse(
    finished: dict[str, dict[int, FoldProbs]],
    new: Composition,
    old: Composition,
    labels: NDArray[np.int64],
    metric: str,
    n_classes: int,
) -> bool:
    ours, theirs = (_oof_of(finished, c, len(labels), n_classes) for c in (new, old))
    both = np.isfinite(ours[:, 0]) & np.isfinite(theirs[:, 0]) & is_known(labels)
    if not both.any():
        return True
    now, before = (score(metric, probs[both], labels[both]) for probs in (ours, theirs))
    return now == before or is_better(metric, now, before)


def _oof_of(
    finished: dict[str, dict[int, FoldProbs]], composition: Composition, n_rows: int, n_classes: int
) -> NDArray[np.float64]:
    total, count = np.zeros((n_rows, n_classes)), np.zeros((n_rows, 1))
    for name, folds in composition.items():
        for fold in folds:
            probs = finished.get(name, {}).get(fold)
            if probs is not None:
                total[probs.rows] += probs.oof
                count[probs.rows] += 1
    return np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)


def _finished_of(
    store: RunStore, members: list[str], target: str, classes: tuple[str, ...]
) -> dict[str, dict[int, FoldProbs]]:
    finished = {name: _finished(store, name, target, classes) for name in members}
    return {name: folds for name, folds in finished.items() if folds}


def _finished_tasks(store: RunStore, members: list[str]) -> dict[str, dict[int, FoldProbs]]:
    """What the folds that are finished in every task make together, under one name."""
    composition = store.composition
    assert composition is not None
    of_task = {task: _finished_of(store, members, task, store.classes(task)) for task in composition.tasks}
    folds = {}
    for fold in sorted(set.intersection(*({f for m in found.values() for f in m} for found in of_task.values()))):
        probs = {task: [m[fold] for m in found.values() if fold in m] for task, found in of_task.items()}
        oof, test = (
            compose_probs(store, {task: np.mean([getattr(p, part) for p in ps], axis=0) for task, ps in probs.items()})
            for part in ("oof", "test")
        )
        folds[fold] = FoldProbs(next(iter(probs.values()))[0].rows, oof, test)
    names = dict.fromkeys(name for found in of_task.values() for name in found)
    return {" x ".join(names): folds} if folds else {}


def _finished(store: RunStore, name: str, target: str, classes: tuple[str, ...]) -> dict[int, FoldProbs]:
    if name in store.complete_members:
        member = store.member(name)
        return _folds_of(member.for_target(target), classes) if target in member.targets else {}
    folder = store.member_folder(name)
    if not folder.is_dir() or (folder / "failed.json").is_file():
        return {}
    n_folds = int(store.samples.table["fold"].max()) + 1
    folds = {}
    for fold in finished_folds(folder, n_folds):
        finished = read_finished_fold(folder, fold)
        part = dict(finished.record.get("tasks") or {}).get(target)
        if part is not None:
            logits = [array[..., slice(*part)] for array in (finished.oof, finished.test)]
            several = target in store.set_formats
            oof, test = (merge_views(part, multi_label=several) for part in logits)
            folds[fold] = FoldProbs(finished.rows, oof, test)
    return folds


def _folds_of(member: Member, classes: tuple[str, ...]) -> dict[int, FoldProbs]:
    oof, test = member.oof(classes), member.test(classes)
    folds = {}
    for fold in range(member.record.folds):
        rows = np.flatnonzero(member.folds == fold)
        folds[fold] = FoldProbs(rows, oof[rows], test[fold])
    return folds


def export_submission(store: RunStore, blend: str, spec: SubmissionSpec) -> tuple[Any, tuple[str, ...]]:
    """The submission table of a named blend, without writing it; and the classes it was made from."""
    found = store.blend(blend)
    ids = _submitted_ids(store)
    if not ids:
        raise RequestError(f"run {store.name!r} has no test rows to submit; add data.test or folds.holdout")
    classes = found.record.classes
    return _table(store, spec, np.asarray(found.test), found.record.target, classes), classes
