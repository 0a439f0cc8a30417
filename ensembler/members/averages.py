"""Members that are the mean of others: a bagging ensemble of its estimators, a member of its seeds or snapshots."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ensembler.files import fingerprint, write_json
from ensembler.members.complete import BLOCK, array_files, member_scores
from ensembler.members.plan import MemberPlan
from ensembler.predictions.arrays import fill_array, release
from ensembler.predictions.members import (
    FORMAT,
    MEMBER_RECORD,
    Member,
    MemberRecord,
    array_file,
    checksums,
)
from ensembler.predictions.publish import replacing
from ensembler.predictions.settled import has_record, read_settled
from ensembler.predictions.store import RunStore
from ensembler.recipe.members import MemberJob
from ensembler.workspace.workspace import Workspace


def assemble_members(workspace: Workspace, jobs: Sequence[MemberJob]) -> list[str]:
    """Make those of `jobs` that are the mean of complete members and are not there yet.

    Their names.
    """
    made = []
    store = RunStore(workspace.store.folder)
    for job in jobs:
        if job.parts and set(job.parts) <= set(store.complete_members):
            parts = [store.member(name) for name in job.parts]
            if not _is_current(store, job, parts):
                _assemble(MemberPlan(workspace, job), parts)
                made.append(job.name)
    return made


def _digest(parts: Sequence[Member]) -> str:
    return fingerprint([[part.name, part.record.views, part.record.sha256] for part in parts])


def _is_current(store: RunStore, job: MemberJob, parts: Sequence[Member]) -> bool:
    folder = store.member_folder(job.name)
    if not has_record(folder, MEMBER_RECORD):
        return False
    return read_settled(folder, MEMBER_RECORD, MemberRecord).fingerprint == _digest(parts)


def _assemble(plan: MemberPlan, parts: Sequence[Member]) -> None:
    views = [
        view for view in parts[0].record.views if all(view in part.record.views for part in parts)
    ]
    with replacing(plan.final_folder, plan.workspace.store.lock_path) as prepared:
        scores: dict[str, dict[str, Any]] = {"oof": {}, "holdout": {}}
        is_multi_task = len(plan.targets) > 1
        for target in plan.targets:
            of_target = [part.for_target(target) for part in parts]
            task = target if is_multi_task else None
            scores["oof"][target] = _mean_of(
                plan, target, of_target, views, prepared / array_file("oof", task), "oof"
            )
            scores["holdout"][target] = _mean_of(
                plan, target, of_target, views, prepared / array_file("test", task), "test"
            )
        content = _record(plan, parts, views)
        content["scores"] = (
            scores if is_multi_task else {split: s[plan.targets[0]] for split, s in scores.items()}
        )
        content["sha256"] = {
            **checksums(prepared, array_files(plan)),
            "samples.csv": plan.workspace.store.samples_sha256,
        }
        write_json(prepared / "member.json", content)


def _mean_of(
    plan: MemberPlan,
    target: str,
    parts: Sequence[Member],
    views: Sequence[str],
    path: Path,
    part: Literal["oof", "test"],
) -> dict[str, float] | None:
    """Write the logarithm of the parts' mean probabilities (or their mean logits), view by view.

    The scores of it.
    """
    sources = [member.oof_logits if part == "oof" else member.test_logits for member in parts]
    axis = sources[0].ndim - 3  # of the views
    shape = (*sources[0].shape[:axis], len(views), *sources[0].shape[axis + 1 :])
    with fill_array(path, shape, np.float32) as out:
        # Block by block: the parts of a large member do not all fit into memory.
        blocks = [slice(start, start + BLOCK) for start in range(0, shape[-2], BLOCK)]
        for (v, view), fold, rows in itertools.product(
            enumerate(views), np.ndindex(shape[:axis]), blocks
        ):
            stack: NDArray[Any] = np.stack(
                [
                    source[(*fold, m.view_index(view), rows)]
                    for source, m in zip(sources, parts, strict=True)
                ]
            )
            out[(*fold, v, rows)] = mean_of_parts(plan, target, stack)
            release(out, *sources)
        return member_scores(plan, target, out, "train" if part == "oof" else "test")


def mean_of_parts(
    plan: MemberPlan, target: str, logits: NDArray[np.floating]
) -> NDArray[np.float32]:
    """What a member of parts predicts for a target, by the logits of its parts `[parts, ..., classes]`."""
    if _averages_logits(plan):
        return logits.mean(axis=0)
    return plan.kind(target).logits_of_mean(logits)


def _averages_logits(plan: MemberPlan) -> bool:
    """Whether logits are averaged, as the methods do whose networks are trained on, or lie around, that average."""
    return plan.job.spec.method in ("fusion", "fast_geometric")


def _choice(parts: Sequence[Member]) -> dict[str, Any]:
    """What chose the epochs of a mean's parts: as of its first part for which something did."""
    told = [part.record.model_extra or {} for part in parts]
    chosen = [extra for extra in told if extra.get("chosen_by", "last") != "last"] or told
    keys = ("chosen_by", "chosen_by_metric", "flattered")
    return {"chosen_by": "last"} | {key: chosen[0][key] for key in keys if key in chosen[0]}


def _record(plan: MemberPlan, parts: Sequence[Member], views: Sequence[str]) -> dict[str, Any]:
    first = parts[0].record
    phases = {key for part in parts for key in part.record.seconds_by_phase}
    return {
        "format": FORMAT,
        "name": plan.job.name,
        "target": first.target,
        "classes": list(first.classes),
        **(
            {"tasks": {task: list(names) for task, names in first.tasks.items()}}
            if first.tasks
            else {}
        ),
        "views": list(views),
        "folds": first.folds,
        "kind": "logits",
        **({"multi_label": list(first.multi_label)} if first.multi_label else {}),
        "values": "logits" if _averages_logits(plan) else "log_probabilities",
        "made_of": [part.name for part in parts],
        **_choice(parts),
        "fold_column": first.fold_column,
        "seconds": sum(part.record.seconds or 0.0 for part in parts),
        "seconds_by_phase": {
            k: sum(p.record.seconds_by_phase.get(k, 0.0) for p in parts) for k in sorted(phases)
        },
        "fingerprint": _digest(parts),
    }
