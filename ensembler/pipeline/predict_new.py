"""Predicting new, unlabelled images with a run's members and its submitted blend."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ensembler.blends.apply import ViewMerging, apply_blend, members_below, merging_below
from ensembler.blends.submit import submission_spec
from ensembler.data.samples import read_unlabelled
from ensembler.errors import MissingFileError, RequestError
from ensembler.files import claim
from ensembler.machine.execution import DEFAULT_EXECUTION, Execution
from ensembler.members.averages import mean_of_parts
from ensembler.members.plan import MemberPlan
from ensembler.members.recorded import select_recorded
from ensembler.members.tta_predict import Rows, Task, ViewPredictor, group_tasks
from ensembler.outputs import check_output, write_output
from ensembler.predictions.arrays import release
from ensembler.predictions.members import Member, shared_views
from ensembler.predictions.merging import merge_views
from ensembler.predictions.store import cache_folder
from ensembler.recipe.members import PlannedMember
from ensembler.recipe.own_code import code_named_by, own_among
from ensembler.reporting.spec import SubmissionSpec
from ensembler.reporting.submitted import blend_to_submit
from ensembler.reporting.table import submission_table
from ensembler.workspace.workspace import Workspace

if TYPE_CHECKING:
    from ensembler.inference.views import View
    from ensembler.predictions.chunks import ChunkedLogits

BLOCK = 512  # rows merged at once


@dataclass(frozen=True)
class NewPredictions:
    """Predictions for new images, and what they were made of."""

    run: str
    out: Path
    rows: int
    blend: str | None
    members: tuple[str, ...]


def predict_new(
    workspace: Workspace,
    data: Path,
    out: Path | None = None,
    *,
    execution: Execution = DEFAULT_EXECUTION,
    members: Sequence[str] | None = None,
    spec: SubmissionSpec | None = None,
) -> NewPredictions:
    """Predict the images of a folder or manifest and write them as a table to `out`.

    The submitted blend decides; without one, or with `members` named, it is the soft vote of the
    members.
    """
    store = workspace.store
    path = out or store.folder / "predictions.csv"
    check_output(path)
    blend = None if members is not None else blend_to_submit(store)
    names = members_below(store, blend) if blend else list(members or store.pool_members)
    if not names:
        raise MissingFileError(f"run {store.name!r} has no complete member to predict with")
    ids, (probs_by_member,) = member_probs(
        workspace,
        data,
        names,
        ViewPredictor(workspace, execution),
        [merging_below(store, blend) if blend else {}],
    )
    if blend is not None:
        target, classes = (
            store.blend(blend).record.target,
            store.blend(blend).record.classes,
        )
        code, progress = workspace.spec.blend.code, workspace.progress
        probs = apply_blend(store, blend, probs_by_member, code, progress)
    else:
        targets = [target for _, target in probs_by_member]
        target = store.samples.first_target(targets) or targets[0]
        classes = store.classes(target)
        probs = np.mean(
            [p.mean(axis=0) for (_, t), p in probs_by_member.items() if t == target], axis=0
        )
    form = spec or _without_template(submission_spec(store))
    table = submission_table(ids, probs, store.target(target, classes), form)
    write_output(path, table.to_csv(index=False, lineterminator="\n").encode())
    return NewPredictions(store.name, path, len(table), blend, tuple(names))


def _without_template(spec: SubmissionSpec) -> SubmissionSpec:
    return spec.model_copy(update={"template": None})


def _recorded_views(workspace: Workspace, member: Member) -> tuple[View, ...]:
    """A member's views; RequestError for code that its record alone names, perhaps another's."""
    from ensembler.inference.views import expand_views, place_of_own

    named = code_named_by(workspace.spec)
    for name in own_among(member.record.views):
        if place_of_own(name) not in named:
            raise RequestError(
                f"member {member.name!r} has a view by code, {place_of_own(name)!r}, that the "
                f"recipe of run {workspace.store.name!r} does not name, and what a record names is "
                "not run; name it in the recipe (views)"
            )
    return expand_views(member.record.views)


def member_probs(
    workspace: Workspace,
    data: Path,
    names: Sequence[str],
    predictor: ViewPredictor,
    mergings: Sequence[Mapping[tuple[str, str], ViewMerging]],
) -> tuple[list[str], list[dict[tuple[str, str], NDArray[np.float32]]]]:
    """Ids of new images, and by member and target probabilities `[folds, samples, classes]`.

    They are predicted once, and their views merged as each of `mergings` says, where it says
    nothing by the mean of all.

    A member that is the mean of others is that of their predictions.
    """
    from ensembler.data.ahead import prepared_ahead
    from ensembler.data.pixel_key import pixels_key

    part = read_unlabelled(data, workspace.spec.data)
    for remark in part.remarks:
        workspace.progress.note(remark.message)
    ids, images = part.table["id"].tolist(), part.images
    store, cache = workspace.store, cache_folder(workspace.artifacts)
    members = select_recorded(workspace, names)
    _check_see_images(members)
    tasks = [
        Task(MemberPlan(workspace, planned), member, _recorded_views(workspace, member))
        for planned in members
        if not planned.parts and (member := store.member(planned.name))
    ]
    logits: dict[str, list[ChunkedLogits]] = {}
    with ExitStack() as folders:
        for group in group_tasks(tasks):
            spec = group[0].plan.input
            key, rows = pixels_key(images, spec, cache), np.arange(len(ids), dtype=np.int64)
            pixels = folders.enter_context(
                prepared_ahead(images, spec, cache, workspace.progress)
            )
            asked: Rows = {
                task.name: [(rows,)] * task.member.record.folds for task in group
            }
            kept = {
                task.name: folders.enter_context(
                    _folder(task, predictor.key(task, pixels, key))
                )
                for task in group
            }
            logits |= predictor.predict(group, pixels, asked, kept)
        plans = [MemberPlan(workspace, m) for m in members if m.name in names]
        merged = [_all_probs(plans, logits, merging) for merging in mergings]
    return ids, merged


def _check_see_images(members: Sequence[PlannedMember]) -> None:
    """Raise RequestError for a member that no image is enough for."""
    for planned in members:
        if not planned.sees_images:
            raise RequestError(
                f"member {planned.name!r} does not look at images: it is fitted on features or "
                "columns that new images do not come with; blend without it, or name --members"
            )


def _all_probs(
    plans: Sequence[MemberPlan],
    logits: Mapping[str, Sequence[ChunkedLogits]],
    merging: Mapping[tuple[str, str], ViewMerging],
) -> dict[tuple[str, str], NDArray[np.float32]]:
    """Probabilities by member and target."""
    probs: dict[tuple[str, str], NDArray[np.float32]] = {}
    for plan in plans:
        probs |= _probs(plan, logits, merging)
    return probs


@contextmanager
def _folder(task: Task, key: str) -> Iterator[Path]:
    """Where a member's logits of new images are kept.

    An interrupted prediction is resumed from there.
    """
    folder = task.plan.final_folder / f".new-{key}"
    with claim(task.plan.final_folder / ".new.lock", wait=True):
        yield folder
        for found in task.plan.final_folder.glob(".new-*"):
            shutil.rmtree(found)


def _probs(
    plan: MemberPlan,
    logits: Mapping[str, Sequence[ChunkedLogits]],
    merging: Mapping[tuple[str, str], ViewMerging],
) -> dict[tuple[str, str], NDArray[np.float32]]:
    """Probabilities of a member by target, from its logits or its parts', block by block."""
    store, of = plan.workspace.store, plan.member.parts or (plan.member.name,)
    members = [store.member(name) for name in of]
    shared = shared_views(members)
    n_folds, n = len(logits[of[0]]), logits[of[0]][0].array.shape[1]
    probs: dict[tuple[str, str], NDArray[np.float32]] = {}
    for target, part in plan.output.task_slices.items():
        by = merging.get((plan.member.name, target), ViewMerging())
        views = by.views or shared
        order = members[0].for_target(target).class_order(store.classes(target))
        out = np.empty((n_folds, n, len(order)), np.float32)
        for fold, start in itertools.product(range(n_folds), range(0, n, BLOCK)):
            rows = slice(start, start + BLOCK)
            found = [
                logits[member.name][fold].array[
                    [member.view_index(view) for view in views], rows, part
                ]
                for member in members
            ]
            one = (
                mean_of_parts(plan, target, np.stack(found))
                if plan.member.parts
                else found[0]
            )
            merged = merge_views(one, by.how, of=plan.output.kind(target))
            out[fold, rows] = merged[:, order]
            for member in members:
                release(logits[member.name][fold].array)
        probs[plan.member.name, target] = out
    return probs
