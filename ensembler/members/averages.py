"""Members that are the mean of others: of estimators, seeds or snapshots."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ensembler.files import fingerprint
from ensembler.members.complete import BLOCK, array_files, member_scores
from ensembler.members.origin import origin_of
from ensembler.members.plan import MemberPlan
from ensembler.predictions.arrays import fill_array, release
from ensembler.predictions.members import (
    FORMAT,
    MEMBER_RECORD,
    Member,
    MemberRecord,
    array_file,
    checksums,
    shared_views,
)
from ensembler.predictions.publish import replacing
from ensembler.predictions.records import write_record
from ensembler.predictions.settled import has_record, read_settled
from ensembler.predictions.store import RunStore
from ensembler.recipe.members import PlannedMember
from ensembler.workspace.workspace import Workspace


def assemble_members(workspace: Workspace, selected: Sequence[PlannedMember]) -> list[str]:
    """Make those of `selected` that are the mean of complete members and are not there yet.

    Their names.
    """
    made = []
    store = RunStore(workspace.store.folder)
    for planned in selected:
        if planned.parts and set(planned.parts) <= set(store.complete_members):
            parts = [store.member(name) for name in planned.parts]
            if not _is_current(store, planned, parts):
                _assemble(MemberPlan(workspace, planned), parts)
                made.append(planned.name)
    return made


def _digest(parts: Sequence[Member]) -> str:
    return fingerprint(
        [[part.name, part.record.views, part.record.sha256] for part in parts]
    )


def _is_current(store: RunStore, planned: PlannedMember, parts: Sequence[Member]) -> bool:
    folder = store.member_folder(planned.name)
    if not has_record(folder, MEMBER_RECORD):
        return False
    return read_settled(folder, MEMBER_RECORD, MemberRecord).fingerprint == _digest(parts)


def _assemble(plan: MemberPlan, parts: Sequence[Member]) -> None:
    views = shared_views(parts)
    with replacing(plan.final_folder, plan.workspace.store.lock_path) as prepared:
        scores: dict[str, dict[str, Any]] = {"oof": {}, "holdout": {}}
        is_multi_task = len(plan.output.targets) > 1
        for target in plan.output.targets:
            of_target = [part.for_target(target) for part in parts]
            task = target if is_multi_task else None
            scores["oof"][target] = _mean_of(
                plan, target, of_target, views, prepared / array_file("oof", task), "oof"
            )
            scores["holdout"][target] = _mean_of(
                plan, target, of_target, views, prepared / array_file("test", task), "test"
            )
        if not is_multi_task:
            scores = {
                split: of_target[plan.output.targets[0]]
                for split, of_target in scores.items()
            }
        sums = {
            **checksums(prepared, array_files(plan)),
            "samples.csv": plan.workspace.store.samples_sha256,
        }
        record = _record(plan, parts, views)
        record = record.model_copy(update={"scores": scores, "sha256": sums})
        write_record(prepared / MEMBER_RECORD, record)


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
    sources = [
        member.oof_logits if part == "oof" else member.test_logits for member in parts
    ]
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
    """What a member predicts for a target, by its parts' logits `[parts, ..., classes]`."""
    if _averages_logits(plan):
        return logits.mean(axis=0)
    return plan.output.kind(target).logits_of_mean(logits)


def _averages_logits(plan: MemberPlan) -> bool:
    """Whether logits are averaged, as methods do whose networks are trained for that average."""
    return plan.member.spec.method in ("fusion", "fast_geometric")


def _choice(parts: Sequence[Member]) -> dict[str, Any]:
    """What chose the epochs of a mean's parts: as of its first part for which something did."""
    chosen = [part.record for part in parts if part.is_optimistic]
    first = chosen[0] if chosen else parts[0].record
    said = first.model_dump(
        include={"chosen_by", "chosen_by_metric", "flattered"}, exclude_unset=True
    )
    return {"chosen_by": "last"} | said


def _record(
    plan: MemberPlan, parts: Sequence[Member], views: Sequence[str]
) -> MemberRecord:
    """What `member.json` says of a mean, but for its scores and checksums."""
    first = parts[0].record
    record = MemberRecord(
        format=FORMAT,
        name=plan.member.name,
        target=first.target,
        classes=first.classes,
        views=tuple(views),
        folds=first.folds,
        kind="logits",
        values="logits" if _averages_logits(plan) else "log_probabilities",
        made_of=tuple(part.name for part in parts),
        fold_column=first.fold_column,
        seconds=sum(part.record.seconds or 0.0 for part in parts),
        seconds_by_phase=_seconds_by_phase(parts),
        fingerprint=_digest(parts),
        sha256={},
    )
    said = _choice(parts)
    if first.tasks:
        said["tasks"] = first.tasks
    if first.multi_label:
        said["multi_label"] = first.multi_label
    return record.model_copy(update=said | origin_of(plan))


def _seconds_by_phase(parts: Sequence[Member]) -> dict[str, float]:
    total: dict[str, float] = {}
    for part in parts:
        for phase, seconds in part.record.seconds_by_phase.items():
            total[phase] = total.get(phase, 0.0) + seconds
    return dict(sorted(total.items()))
