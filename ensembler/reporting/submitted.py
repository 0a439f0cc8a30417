"""The submission of a run: there from the first finished fold on, and only ever replaced by a better one."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ensembler.errors import RequestError, StoreError
from ensembler.files import claim, read_json, sha256_of, write_bytes, write_json
from ensembler.metrics import is_better, score
from ensembler.predictions.composed import compose_probs
from ensembler.predictions.finished_folds import finished_folds, read_finished_fold
from ensembler.predictions.members import Member
from ensembler.predictions.merging import merge_groups, merge_views
from ensembler.predictions.store import RunStore
from ensembler.progress import QUIET, Progress
from ensembler.reporting.spec import SubmissionSpec
from ensembler.reporting.table import submission_table
from ensembler.targets.label_sets import is_known

Composition = dict[str, list[int]]  # member -> its folds


@dataclass(frozen=True)
class FoldProbs:
    """Probabilities of one fold's checkpoint: `oof` `[rows, classes]` of train `rows`, `test` `[samples, classes]`."""

    rows: NDArray[np.int64]
    oof: NDArray[np.floating]
    test: NDArray[np.floating]


def check_submission(
    store: RunStore, spec: SubmissionSpec, target: str, classes: tuple[str, ...]
) -> None:
    """Raise RequestError now when the submission could not be written later: columns or template do not fit."""
    if _submitted_ids(store):
        _table(
            store,
            spec,
            np.full((len(store.samples.test), len(classes)), 1 / len(classes)),
            target,
            classes,
        )


def _submitted_ids(store: RunStore) -> list[str]:
    return store.samples.test["id"][store.samples.to_submit].tolist()


def _table(
    store: RunStore,
    spec: SubmissionSpec,
    test: NDArray[np.floating],
    target: str,
    classes: tuple[str, ...],
) -> pd.DataFrame:
    """The submission of probabilities `test` `[test samples, classes]`, a row for each sample or each group."""
    asked = store.target(target, classes)
    ids, probs = _submitted_ids(store), np.asarray(test)[store.samples.to_submit]
    if spec.per == "group":
        names, numbers = _submitted_groups(store)
        together = merge_groups(probs, numbers, spec.reduce, of=asked.kind)
        ids, probs = (ids, together[numbers]) if spec.each else (names, together)
    return submission_table(ids, probs, asked, spec)


def _submitted_groups(store: RunStore) -> tuple[list[str], NDArray[np.int64]]:
    """The groups of the submitted rows in the order in which they come, and each row's number among them."""
    rows = store.samples.test[store.samples.to_submit]
    if "group" not in rows or (rows["group"].fillna("") == "").any():
        raise RequestError(
            "submission.per: group needs the group of every submitted row; name the column with "
            "data.group, and see "
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
    progress: Progress = QUIET,
) -> bool:
    """Write `submission.csv` from probabilities `test` `[test samples, classes]` of a target, and note what made it.

    `by_hand` says that it was asked for by name, so that a run that makes nothing new leaves it
    alone. A file there that is not one of ours is kept under another name, with a warning on `progress`.
    Returns False, and writes nothing, when the run has no rows to submit.
    """
    if not _submitted_ids(store):
        return False
    table = _table(store, spec, test, target, classes)
    content = table.to_csv(index=False, lineterminator="\n").encode()
    digest = hashlib.sha256(content).hexdigest()
    versions = submission_versions(store)
    version = {"sha256": digest, "rows": len(table), "made_of": dict(made_of)}
    if by_hand:
        version |= {"by_hand": True, "options": spec.model_dump(mode="json")}
    if is_as_recorded(store) and _same_version(versions[-1], version):
        return True
    _keep_altered(store, progress)
    if not versions or versions[-1] != version:
        # The record comes first: it may name a version that never arrived, but no file is without
        # its record.
        versions.append(version)
        write_json(store.folder / "submission.json", {"format": 1, "versions": versions})
    write_bytes(store.submission_path, content)
    return True


def _same_version(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    return all(old.get(key) == new.get(key) for key in ("sha256", "rows", "made_of", "by_hand"))


def _keep_altered(store: RunStore, progress: Progress) -> None:
    """Keep a submission that somebody has altered, or made, under another name before it is written again."""
    path = store.submission_path
    digest = _digest_of(path)
    if digest is None or path.stat().st_size == 0 or _version_of(store, digest) is not None:
        return
    kept = path.with_name(f"submission.altered-{digest[:8]}.csv")
    if not kept.is_file():
        write_bytes(kept, path.read_bytes())
    progress.warn(
        f"{path} was not as it was written; it is written again, and what was there is kept as "
        f"{kept.name}"
    )


def submission_versions(store: RunStore) -> list[dict[str, Any]]:
    """What each version of the submission was made of, the newest last."""
    path = store.folder / "submission.json"
    if not path.is_file():
        return []
    versions = read_json(path).get("versions")
    if not isinstance(versions, list) or not all(
        isinstance(v, dict) and "made_of" in v for v in versions
    ):
        raise StoreError(
            f"{path} does not list the versions of the submission; remove it, `ens run` writes it "
            "again"
        )
    return versions


def is_as_recorded(store: RunStore) -> bool:
    """Whether `submission.csv` is the newest version in its record, and not an older, cut or altered one."""
    versions = submission_versions(store)
    return bool(versions) and _digest_of(store.submission_path) == versions[-1].get("sha256")


def _digest_of(path: Path) -> str | None:
    return sha256_of(path) if path.is_file() else None


def _version_of(store: RunStore, digest: str | None) -> dict[str, Any] | None:
    """The newest version that is a file of this sha256."""
    return next(
        (v for v in reversed(submission_versions(store)) if v.get("sha256") == digest), None
    )


def chosen_by_hand(store: RunStore) -> tuple[str, SubmissionSpec | None] | None:
    """The blend that the submission was last made of by hand, and with which options when these were kept.

    None when it was not made by hand, the blend is gone, or the file was removed to have it made
    anew.
    """
    versions = submission_versions(store)
    if not versions or not versions[-1].get("by_hand") or not store.submission_path.is_file():
        return None
    name, options = _blend_of(store, versions[-1]), versions[-1].get("options")
    if name is None:
        return None
    return name, None if options is None else SubmissionSpec.model_validate(options)


def submitted_blend(store: RunStore) -> str | None:
    """The name of the blend that the submission lying there was made of, when it was one.

    None for an altered file.
    """
    version = _version_of(store, _digest_of(store.submission_path))
    return None if version is None else _blend_of(store, version)


def blend_to_submit(store: RunStore) -> str | None:
    """The name of the blend that the submission was last to be made of, whatever became of the file."""
    versions = submission_versions(store)
    return _blend_of(store, versions[-1]) if versions else None


def _blend_of(store: RunStore, version: Mapping[str, Any]) -> str | None:
    name = version["made_of"].get("blend")
    return name if isinstance(name, str) and name in store.blends else None


def renew_submission(
    store: RunStore,
    spec: SubmissionSpec,
    *,
    target: str,
    metric: str,
    members: list[str],
    progress: Progress = QUIET,
) -> None:
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
        if versions and store.submission_path.is_file() and not isinstance(old, dict):
            return  # a blend's, which the run sees to after its members
        if is_as_recorded(store) and isinstance(old, dict):
            if old == new:
                return
            if not _not_worse(finished, new, old, labels, metric, len(classes)):
                return
        test = np.mean(
            [np.mean([f.test for f in folds.values()], axis=0) for folds in finished.values()],
            axis=0,
        )
        made_of = {"folds": new, "method": "soft vote of what is finished"}
        write_submission(store, spec, test, target, classes, made_of, progress=progress)


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
    of_task = {
        task: _finished_of(store, members, task, store.classes(task)) for task in composition.tasks
    }
    folds = {}
    for fold in sorted(
        set.intersection(*({f for m in found.values() for f in m} for found in of_task.values()))
    ):
        probs = {
            task: [m[fold] for m in found.values() if fold in m] for task, found in of_task.items()
        }
        oof, test = (
            compose_probs(
                store,
                {
                    task: np.mean([getattr(p, part) for p in ps], axis=0)
                    for task, ps in probs.items()
                },
            )
            for part in ("oof", "test")
        )
        folds[fold] = FoldProbs(next(iter(probs.values()))[0].rows, oof, test)
    names = dict.fromkeys(name for found in of_task.values() for name in found)
    return {" x ".join(names): folds} if folds else {}


def _finished(
    store: RunStore, name: str, target: str, classes: tuple[str, ...]
) -> dict[int, FoldProbs]:
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
            kind = store.kind(target)
            oof, test = (merge_views(part, of=kind) for part in logits)
            folds[fold] = FoldProbs(finished.rows, oof, test)
    return folds


def _folds_of(member: Member, classes: tuple[str, ...]) -> dict[int, FoldProbs]:
    oof, test = member.oof(classes), member.test(classes)
    folds = {}
    for fold in range(member.record.folds):
        rows = np.flatnonzero(member.folds == fold)
        folds[fold] = FoldProbs(rows, oof[rows], test[fold])
    return folds


def export_submission(
    store: RunStore, blend: str, spec: SubmissionSpec
) -> tuple[Any, tuple[str, ...]]:
    """The submission table of a named blend, without writing it.

    And the classes it was made from.
    """
    found = store.blend(blend)
    ids = _submitted_ids(store)
    if not ids:
        raise RequestError(
            f"run {store.name!r} has no test rows to submit; add data.test or folds.holdout"
        )
    classes = found.record.classes
    return _table(store, spec, np.asarray(found.test), found.record.target, classes), classes
