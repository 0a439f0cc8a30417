"""`ens tta-predict`: more views for finished members, all from one pass over the pixels."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ensembler.data.pixel_key import pixels_key
from ensembler.data.pixels import Pixels
from ensembler.errors import StoreError
from ensembler.files import claim, fingerprint, sha256_of
from ensembler.machine.execution import DEFAULT_EXECUTION, Execution
from ensembler.members.averages import assemble_members
from ensembler.members.complete import array_files, write_logits
from ensembler.members.engines import Engines
from ensembler.members.plan import MemberPlan
from ensembler.members.predict import predict_checkpoints
from ensembler.predictions.finished_folds import FinishedFold
from ensembler.predictions.members import (
    FEATURES,
    MEMBER_RECORD,
    Member,
    MemberRecord,
    checksums,
)
from ensembler.predictions.publish import replacing
from ensembler.predictions.records import read_record, write_record
from ensembler.predictions.store import cache_folder
from ensembler.recipe.members import PlannedMember
from ensembler.workspace.workspace import Workspace

if TYPE_CHECKING:
    from ensembler.inference.views import View
    from ensembler.predictions.chunks import ChunkedLogits

# By member and fold the positions of the images that a checkpoint sees, in parts.
Rows = dict[str, list[tuple[NDArray[np.int64], ...]]]
# bytes of checkpoints held at once; more members than that take another pass
MAX_WEIGHTS = 2 << 30


@dataclass(frozen=True)
class ViewsResult:
    """Which views each member has now, and which of them were computed by this call."""

    run: str
    views: dict[str, tuple[str, ...]]
    added: dict[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Task:
    """Views that a complete member is to predict, with all its checkpoints."""

    plan: MemberPlan
    member: Member
    views: tuple[View, ...]

    @property
    def name(self) -> str:
        """The member's name."""
        return self.member.name

    @property
    def size(self) -> int:
        """Bytes of its checkpoints."""
        return sum(
            weights_file(self.member, fold).stat().st_size
            for fold in range(self.member.record.folds)
        )


@dataclass(frozen=True)
class ViewPredictor:
    """Predicts with the checkpoints of complete members."""

    workspace: Workspace
    execution: Execution = DEFAULT_EXECUTION

    @property
    def engines(self) -> Engines:
        """What computes."""
        return Engines(self.workspace, self.execution)

    def add_views(
        self, views: Sequence[View], members: Sequence[str] | None = None
    ) -> ViewsResult:
        """Compute the views that complete members lack; those they have stay as they are.

        Members of the same input share one pass over its pixels. A member that is the mean of
        others gets the views that all of them have.
        """
        store, selected = self.workspace.store, self.workspace.select(members)
        before = {
            planned.name: store.member(planned.name).record.views
            for planned in selected
            if planned.name in store.complete_members
        }
        trained = [
            planned for planned in selected if planned.name in before and not planned.parts
        ]
        for group in group_tasks(
            [
                task
                for planned in trained
                if (task := self._task(planned, views)) is not None
            ]
        ):
            self._extend(group)
        assemble_members(self.workspace, self.workspace.members)
        now = {name: store.member(name).record.views for name in before}
        added = {
            name: tuple(v for v in now[name] if v not in before[name]) for name in before
        }
        return ViewsResult(
            store.name, now, {name: new for name, new in added.items() if new}
        )

    def _task(self, planned: PlannedMember, views: Sequence[View]) -> Task | None:
        member = self.workspace.store.member(planned.name)
        new = tuple(view for view in views if view.name not in member.record.views)
        if not new or not planned.sees_images:
            return None
        return Task(MemberPlan(self.workspace, planned), member, new)

    def _extend(self, tasks: Sequence[Task]) -> None:
        ws, first = self.workspace, tasks[0].plan
        key = pixels_key(ws.samples.images, first.input, cache_folder(ws.artifacts))
        with ExitStack() as claims:
            # In the order of the recipe in every process, so that two of them never wait for each
            # other.
            for task in tasks:
                claims.enter_context(
                    claim(task.plan.final_folder / ".views.lock", wait=True)
                )
            # Another process may have done the work while this one waited.
            left = [
                again
                for t in tasks
                if (again := self._task(t.plan.member, t.views)) is not None
            ]
            train_images, test_images = ws.image_rows
            rows: Rows = {
                t.name: [
                    (train_images[t.member.folds == fold], test_images)
                    for fold in range(t.member.record.folds)
                ]
                for t in left
            }
            pixels = first.pixels
            folders = {
                t.name: t.plan.final_folder / f".views-{self.key(t, pixels, key)}"
                for t in left
            }
            logits = self.predict(left, pixels, rows, folders)
            for task in left:
                self._replace(task, logits[task.name])
                for folder in task.plan.final_folder.glob(".views-*"):
                    shutil.rmtree(folder)

    def key(self, task: Task, pixels: Pixels, pixels_key: str) -> str:
        """A digest of weights, images, views and engine: with others the prediction starts anew."""
        from ensembler.networks.devices import pick_device

        custom = [
            v.model_dump(mode="json")
            for v in self.workspace.spec.views
            if not isinstance(v, str)
        ]
        names, record = [view.name for view in task.views], task.member.record
        engine = self.engines.of(task.plan, weights_file(task.member, 0), pixels)
        how = [task.plan.member.base.amp, pick_device(self.execution.device).type, engine]
        return fingerprint(
            [
                names,
                [c for c in custom if c["name"] in names],
                record.sha256,
                pixels_key,
                how,
            ]
        )

    def predict(
        self,
        tasks: Sequence[Task],
        pixels: Pixels,
        rows: Rows,
        folders: dict[str, Path],
    ) -> dict[str, list[ChunkedLogits]]:
        """Logits of the tasks' members, fold by fold, kept in their `folders`.

        Weights are checked before.
        """
        from ensembler.inference.one_pass import PredictionRequest
        from ensembler.networks.devices import use_available_cores

        use_available_cores()
        requests = []
        for task in tasks:
            for fold in range(task.member.record.folds):
                request = PredictionRequest(
                    name=f"member {task.name!r} fold {fold}",
                    path=checked_weights(task.member, fold),
                    classes=len(task.plan.output.classes),
                    views=task.views,
                    rows=rows[task.name][fold],
                    out=folders[task.name] / f"fold{fold}.npy",
                )
                requests.append((task.plan, request))
        found = predict_checkpoints(
            requests,
            pixels,
            self.engines,
            progress=self.workspace.progress,
            step=f"predicting {', '.join(task.name for task in tasks)}",
        )
        logits: dict[str, list[ChunkedLogits]] = {task.name: [] for task in tasks}
        for (plan, _), of_request in zip(requests, found, strict=True):
            logits[plan.member.name].append(of_request)
        return logits

    def _replace(self, task: Task, logits: Sequence[ChunkedLogits]) -> None:
        store, plan, names = (
            self.workspace.store,
            task.plan,
            [view.name for view in task.views],
        )
        finished = []
        for fold, found in enumerate(logits):
            valid = np.flatnonzero(task.member.folds == fold).astype(np.int64)
            oof, test = found.array[:, : len(valid)], found.array[:, len(valid) :]
            finished.append(FinishedFold(fold, valid, oof, test, {"views": names}))
        with replacing(plan.final_folder, store.lock_path) as prepared:
            scores = write_logits(plan, prepared, finished, before=task.member)
            record = read_record(plan.final_folder / MEMBER_RECORD, MemberRecord)
            seconds = sum(sum(found.seconds.values()) for found in logits)
            before = record.seconds_by_phase.get("predicting", 0.0)
            changes = {
                "views": (*task.member.record.views, *names),
                "scores": scores,
                "seconds_by_phase": {
                    **record.seconds_by_phase,
                    "predicting": before + seconds,
                },
                "sha256": {**record.sha256, **checksums(prepared, array_files(plan))},
            }
            write_record(prepared / MEMBER_RECORD, record.model_copy(update=changes))


def group_tasks(tasks: Sequence[Task]) -> list[list[Task]]:
    """The tasks that share a pass: of one input, as many as fit into memory."""
    groups: list[list[Task]] = []
    for task in tasks:
        for group in groups:
            if (
                group[0].plan.input == task.plan.input
                and sum(t.size for t in group) + task.size <= MAX_WEIGHTS
            ):
                group.append(task)
                break
        else:
            groups.append([task])
    return groups


def weights_file(member: Member, fold: int) -> Path:
    """Where the weights of a fold lie; StoreError when the member keeps none."""
    path = member.folder / f"fold{fold}.safetensors"
    if path.name not in member.record.sha256 or not path.is_file():
        raise StoreError(
            f"member {member.name!r} keeps no weights of fold {fold} ({path.name}); it cannot "
            "predict"
        )
    return path


def checked_weights(member: Member, fold: int) -> Path:
    """The weights of a fold, when they are the file that `member.json` describes."""
    path = weights_file(member, fold)
    if sha256_of(path) != member.record.sha256[path.name]:
        raise StoreError(
            f"{path} is not the file that member.json describes (its sha256 differs); restore it"
        )
    frozen = member.folder / FEATURES
    if FEATURES in member.record.sha256 and (
        not frozen.is_file() or sha256_of(frozen) != member.record.sha256[FEATURES]
    ):
        raise StoreError(
            f"{frozen} is not the file that member.json describes; restore it from a copy"
        )
    return path


def predict_missing_views(
    workspace: Workspace, execution: Execution = DEFAULT_EXECUTION
) -> ViewsResult:
    """Compute the views of the recipe that complete members lack."""
    from ensembler.inference.views import expand_views

    return ViewPredictor(workspace, execution).add_views(expand_views(workspace.spec.views))
