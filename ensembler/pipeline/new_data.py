"""Predicting new, unlabelled images with a run's members and its submitted blend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ensembler.data.samples import read_unlabelled
from ensembler.errors import MissingFileError
from ensembler.files import write_bytes
from ensembler.pipeline.apply import apply_blend, members_below
from ensembler.pipeline.blend import submission_spec
from ensembler.pipeline.member_plan import MemberPlan
from ensembler.pipeline.submission import submitted_blend
from ensembler.pipeline.views import ViewPredictor
from ensembler.pipeline.workspace import Workspace
from ensembler.predictions.merging import merge_views
from ensembler.predictions.store import cache_folder
from ensembler.reporting.spec import SubmissionSpec
from ensembler.reporting.submission import submission_table


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
    device: str = "auto",
    members: Sequence[str] | None = None,
    spec: SubmissionSpec | None = None,
) -> NewPredictions:
    """Predict the images of a folder or manifest and write them as a table to `out`.

    The submitted blend decides; without one, or with `members` named, it is the soft vote of the members.
    """
    store = workspace.store
    blend = None if members is not None else submitted_blend(store)
    names = members_below(store, blend) if blend else list(members or store.pool_members)
    if not names:
        raise MissingFileError(f"run {store.name!r} has no complete member to predict with")
    ids, probs_by_member = _predict(workspace, data, names, device)
    if blend is not None:
        classes = store.blend(blend).record.classes
        probs = apply_blend(store, blend, probs_by_member)
    else:
        targets = {target for _, target in probs_by_member}
        target = next(t for t in store.samples.targets if t in targets)
        classes = store.classes(target)
        probs = np.mean([p.mean(axis=0) for (_, t), p in probs_by_member.items() if t == target], axis=0)
    table = submission_table(ids, probs, classes, spec or _without_template(submission_spec(store)))
    path = out or store.folder / "predictions.csv"
    write_bytes(path, table.to_csv(index=False, lineterminator="\n").encode())
    return NewPredictions(store.name, path, len(table), blend, tuple(names))


def _without_template(spec: SubmissionSpec) -> SubmissionSpec:
    return spec.model_copy(update={"template": None})


def _predict(
    workspace: Workspace, data: Path, names: Sequence[str], device: str
) -> tuple[list[str], dict[tuple[str, str], NDArray[np.float32]]]:
    from ensembler.data.pixels import prepare_pixels
    from ensembler.inference.views import expand_views

    ids, images = read_unlabelled(data, workspace.spec.data)
    predictor = ViewPredictor(workspace, device)
    store = workspace.store
    probs: dict[tuple[str, str], NDArray[np.float32]] = {}
    for job in workspace.select(names):
        plan = MemberPlan(workspace, job)
        member = store.member(job.name)
        pixels = prepare_pixels(
            images,
            plan.input,
            cache_folder(workspace.artifacts),
            on_progress=lambda done, total: workspace.progress.step("decoding images", done, total),
        )
        rows, views = np.arange(len(ids)), expand_views(member.record.views)
        folds = [predictor.predict(plan, member, f, pixels, rows, views) for f in range(member.record.folds)]
        for target, part in plan.task_slices.items():
            order = member.for_target(target).class_order(store.classes(target))
            probs[job.name, target] = np.stack([merge_views(logits[..., part])[:, order] for logits in folds])
    return ids, probs
