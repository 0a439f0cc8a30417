"""From finished folds to a complete member, and from a complete member to one with more views."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ensembler.errors import StoreError
from ensembler.files import claim
from ensembler.members.on_disk import check_weights
from ensembler.members.origin import origin_of
from ensembler.members.plan import MemberPlan
from ensembler.metrics import score_all
from ensembler.predictions.arrays import fill_array, release
from ensembler.predictions.finished_folds import FinishedFold, fold_path, weights_path
from ensembler.predictions.members import (
    FAILED,
    FEATURES,
    FORMAT,
    MEMBER_RECORD,
    RETRAINING,
    Member,
    MemberRecord,
    array_file,
    checksums,
)
from ensembler.predictions.merging import merge_views
from ensembler.predictions.publish import finish_replacement, prepared_replacement
from ensembler.predictions.records import write_record
from ensembler.targets.label_sets import is_known
from ensembler.training.spec import FittedSpec, MemberSpec, SoupSpec

BLOCK = 4096  # rows merged at once


def drop_stale(plan: MemberPlan) -> None:
    """Drop finished folds made with other options, and the record of an earlier failure."""
    if plan.changed:
        plan.workspace.progress.note(
            f"member {plan.member.name!r} is trained again: {plan.changed} changed"
        )
    if plan.on_disk.is_complete:
        forget_work(plan)
        return
    (plan.on_disk.folder / FAILED).unlink(missing_ok=True)
    (plan.on_disk.folder / "failed.log").unlink(missing_ok=True)
    for fold in range(plan.rows.n_folds):
        path = fold_path(plan.on_disk.folder, fold)
        if not path.is_file():
            continue
        try:
            finished = plan.on_disk.is_finished(fold)
        except StoreError as error:
            plan.workspace.progress.warn(str(error))
            finished = False
        if not finished:
            path.unlink(missing_ok=True)


def complete_member(plan: MemberPlan, finished: Sequence[FinishedFold]) -> None:
    """Write the member's arrays and, last, `member.json`.

    Then drop the files of its single folds.
    """
    with claim(plan.workspace.store.lock_path, wait=True):
        finish_replacement(plan.final_folder)
        if not plan.on_disk.is_complete:  # another process may have been faster
            with prepared_replacement(plan.final_folder) as prepared:
                _prepare(plan, finished, prepared)
    forget_work(plan)


def _prepare(plan: MemberPlan, finished: Sequence[FinishedFold], prepared: Path) -> None:
    scores = write_logits(plan, prepared, finished)
    names = [weights_path(plan.on_disk.folder, fold.fold).name for fold in finished]
    frozen = [FEATURES] if is_probe_of_network(plan) else []
    names += frozen
    if plan.on_disk.folder.name == RETRAINING:
        for name in names:
            shutil.copyfile(plan.on_disk.folder / name, prepared / name)
    sums = checksums(prepared, array_files(plan)) | _weights_checksums(
        plan.on_disk.folder, finished
    )
    sums |= checksums(plan.on_disk.folder, frozen)
    record = _record(plan, finished, scores, sums)
    write_record(prepared / MEMBER_RECORD, record)


def is_probe_of_network(plan: MemberPlan) -> bool:
    """Whether heads stand on a frozen network, which is kept beside them."""
    return isinstance(plan.member.spec, FittedSpec) and plan.member.sees_images


def array_files(plan: MemberPlan) -> list[str]:
    """Names of the files of logits that a member has."""
    tasks = plan.output.targets if len(plan.output.targets) > 1 else (None,)
    parts: list[Literal["oof", "test"]] = ["oof", "test"]
    return [array_file(part, task) for task, part in product(tasks, parts)]


def write_logits(
    plan: MemberPlan,
    prepared: Path,
    finished: Sequence[FinishedFold],
    before: Member | None = None,
) -> dict[str, Any]:
    """Write a member's logits into `prepared`, the views that it has had before first.

    Return its scores by split. The scores of a member of several tasks are by split and task.
    """
    oof_scores, holdout_scores = {}, {}
    is_multi_task = len(plan.output.targets) > 1
    for target, part in plan.output.task_slices.items():
        task, old = (
            (target if is_multi_task else None),
            (None if before is None else before.for_target(target)),
        )
        n_old = 0 if old is None else len(old.record.views)
        shape = (
            n_old + finished[0].oof.shape[0],
            len(plan.workspace.store.samples.train),
            part.stop - part.start,
        )
        with fill_array(prepared / array_file("oof", task), shape, np.float32) as oof:
            if old is not None:
                _copy(old.oof_logits, oof[:n_old])
            oof[n_old:] = np.nan
            for fold in finished:
                for v, view in enumerate(fold.oof):
                    oof[n_old + v, fold.rows] = view[:, part]
                    release(oof, fold.oof)
            oof_scores[target] = member_scores(plan, target, oof, "train")
        test_shape = (
            len(finished),
            shape[0],
            len(plan.workspace.store.samples.test),
            shape[2],
        )
        with fill_array(
            prepared / array_file("test", task), test_shape, np.float32
        ) as test:
            if old is not None:
                _copy(old.test_logits, test[:, :n_old])
            for fold in finished:
                _copy(fold.test[..., part], test[fold.fold, n_old:])
            holdout_scores[target] = member_scores(plan, target, test, "test")
    if is_multi_task:
        return {"oof": oof_scores, "holdout": holdout_scores}
    return {
        "oof": oof_scores[plan.output.targets[0]],
        "holdout": holdout_scores[plan.output.targets[0]],
    }


def _copy(source: NDArray[Any], into: NDArray[Any]) -> None:
    """Copy logits view by view: a member's may be more than memory holds."""
    for view in np.ndindex(source.shape[:-2]):
        into[view] = source[view]
        release(source, into)


def _weights_checksums(folder: Path, finished: Sequence[FinishedFold]) -> dict[str, str]:
    sums = checksums(folder, [weights_path(folder, fold.fold).name for fold in finished])
    for fold in finished:
        name = weights_path(folder, fold.fold).name
        if sums[name] != fold.record["weights_sha256"]:
            raise StoreError(
                _why_other_weights(folder / name, fold_path(folder, fold.fold))
            )
    return sums


def _why_other_weights(weights: Path, logits: Path) -> str:
    """What to do about weights that are not those whose logits are there."""
    from ensembler.networks.header import read_description

    both = (
        f"restore it from a copy, or remove it and {logits} to have the fold trained again"
    )
    try:
        is_whole = check_weights(weights, read_description(weights))
    except StoreError as error:
        return f"{error}; {both}"
    if is_whole:
        return (
            f"{weights} holds another network than the one whose logits {logits.name} holds; "
            f"remove {logits} to have the fold predicted again"
        )
    return f"{weights} was altered after {logits.name} was predicted with it; {both}"


def _record(
    plan: MemberPlan,
    finished: Sequence[FinishedFold],
    scores: Mapping[str, Any],
    sums: Mapping[str, str],
) -> MemberRecord:
    training = sum(float(fold.record["seconds"]) for fold in finished)
    predicting = sum(float(fold.record["seconds_predicting"]) for fold in finished)
    record = MemberRecord(
        format=FORMAT,
        name=plan.member.name,
        target=plan.output.targets[0],
        classes=plan.output.classes,
        views=plan.view_names,
        folds=len(finished),
        kind="logits",
        fold_column=plan.member.fold_column,
        scores=dict(scores),
        seconds=training,
        seconds_by_phase={"training": training, "predicting": predicting},
        training=plan.member.training,
        weights=plan.member.variant,
        chosen_epochs=tuple(fold.record["chosen_epoch"] for fold in finished),
        augmented_on=tuple(fold.record.get("augmented_on") for fold in finished),
        history=tuple(fold.record["history"] for fold in finished),
        environments=tuple(fold.record.get("environment") for fold in finished),
        fingerprint=plan.fingerprint,
        options=plan.options,
        sha256={**sums, "samples.csv": plan.workspace.store.samples_sha256},
    )
    said = _tasks(plan) | _choice(plan) | _special(plan, finished) | origin_of(plan)
    return record.model_copy(update=said)


def _special(plan: MemberPlan, finished: Sequence[FinishedFold]) -> dict[str, Any]:
    """What is said of some members alone: sums of networks, soups, those short of memory."""
    special: dict[str, Any] = {}
    teacher = plan.options.get("teacher")
    if teacher is not None and not teacher.get("own_fold"):
        # Its teachers have seen the labels that a student is scored by (docs/fewer.md).
        special["flattered"] = True
    if plan.member.variant == "sum":
        special["values"] = "log_probabilities"
    at_once = tuple(fold.record.get("images_at_once") for fold in finished)
    if any(at_once):
        special["images_at_once"] = at_once
    if "made_of" in finished[0].record:
        special["weights_of"] = tuple(tuple(fold.record["made_of"]) for fold in finished)
    return special


def _choice(plan: MemberPlan) -> dict[str, Any]:
    """What chose the epoch that predicts, and whether that makes out-of-fold scores optimistic.

    The validation fold is what these scores are of. Averages and snapshots are of the last epochs
    whatever is chosen, but with patience it was the validation fold that said which epochs are the
    last.
    """
    for spec, weights in _trained_from(plan):
        how = chosen_by(spec, weights)
        if how != "last":
            return {"chosen_by": how, "chosen_by_metric": spec.choose_by, "flattered": True}
    return {"chosen_by": "last", "flattered": False}


def _trained_from(plan: MemberPlan) -> list[tuple[MemberSpec, str]]:
    """The trainings of our own loop that a member's weights come from, and which variants."""
    found = [(plan.member.spec, plan.member.variant)]
    if isinstance(plan.member.spec, SoupSpec):
        found = [
            (ingredient.member.spec, ingredient.member.variant)
            for ingredient in plan.ingredients
        ]
    return [(spec, weights) for spec, weights in found if isinstance(spec, MemberSpec)]


def chosen_by(spec: MemberSpec, weights: str) -> Literal["last", "best", "patience"]:
    """What chose the epoch of one of a training's weights."""
    if spec.choose == "best" and weights == spec.primary:
        return "best"
    return "last" if spec.patience is None else "patience"


def _tasks(plan: MemberPlan) -> dict[str, Any]:
    """What is said of members of several tasks, and of multi-label targets, alone."""
    classes, said = plan.workspace.samples.classes, dict[str, Any]()
    if len(plan.output.targets) > 1:
        said["tasks"] = {target: tuple(classes[target]) for target in plan.output.targets}
    if plan.output.multi_label:
        said["multi_label"] = tuple(plan.output.multi_label)
    return said


def member_scores(
    plan: MemberPlan, target: str, logits: NDArray[Any], split: str
) -> dict[str, float] | None:
    """Scores of a member in one target: of `oof.npy` for "train", of `test.npy` for "test".

    None when no row of that split has a label (and, for "train", is validated by some fold).
    """
    labels = plan.output.labels_of(target, split)
    known = is_known(labels)
    if split == "train":
        known &= plan.rows.fold_of_row >= 0
    if not known.any():
        return None
    networks, rows = [logits] if split == "train" else logits, np.flatnonzero(known)
    probs = np.zeros((len(rows), logits.shape[-1]))
    for start in range(0, len(rows), BLOCK):
        block = slice(start, start + BLOCK)
        for views in networks:
            probs[block] += merge_views(views[:, rows[block]], of=plan.output.kind(target))
        release(logits)
    return score_all(probs / len(networks), labels[known])


def forget_work(plan: MemberPlan) -> None:
    """Remove what only an incomplete member needs."""
    shutil.rmtree(plan.final_folder / RETRAINING, ignore_errors=True)
    for fold in range(plan.rows.n_folds):
        fold_path(plan.final_folder, fold).unlink(missing_ok=True)
        (plan.final_folder / f"fold{fold}.state").unlink(missing_ok=True)
    (plan.final_folder / FAILED).unlink(missing_ok=True)
