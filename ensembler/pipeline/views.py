"""`ens tta-predict`: more views for finished members, and predictions for new images."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ensembler.data.pixels import Pixels
from ensembler.errors import StoreError
from ensembler.files import claim, read_json, sha256_of, write_json
from ensembler.pipeline.completion import array_files, write_logits
from ensembler.pipeline.fingerprint import fingerprint
from ensembler.pipeline.member_plan import MemberPlan
from ensembler.pipeline.progress import FoldJob
from ensembler.pipeline.workspace import Workspace
from ensembler.predictions.finished_folds import FinishedFold, fold_path, read_finished_fold, write_finished_fold
from ensembler.predictions.members import Member, checksums
from ensembler.predictions.publish import replacing

if TYPE_CHECKING:
    from ensembler.inference.views import View


@dataclass(frozen=True)
class ViewsResult:
    """Which views each member has now, and which of them were computed by this call."""

    run: str
    views: dict[str, tuple[str, ...]]
    added: dict[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class ViewPredictor:
    """Predicts with the checkpoints of complete members."""

    workspace: Workspace
    device: str = "auto"

    def add_views(self, views: Sequence[View], members: Sequence[str] | None = None) -> ViewsResult:
        """Compute the views that complete members lack; those they have stay as they are."""
        added: dict[str, tuple[str, ...]] = {}
        now: dict[str, tuple[str, ...]] = {}
        for job in self.workspace.select(members):
            plan = MemberPlan(self.workspace, job)
            if job.name not in self.workspace.store.complete_members:
                continue
            member = self.workspace.store.member(job.name)
            new = [view for view in views if view.name not in member.record.views]
            if new:
                self._extend(plan, member, new)
                added[job.name] = tuple(view.name for view in new)
            now[job.name] = (*member.record.views, *added.get(job.name, ()))
        return ViewsResult(self.workspace.store.name, now, added)

    def _extend(self, plan: MemberPlan, member: Member, views: Sequence[View]) -> None:
        key = fingerprint([[view.name for view in views], member.record.sha256])
        aside = plan.final_folder / f".views-{key}"
        aside.mkdir(exist_ok=True)
        with claim(aside / ".lock", wait=True):
            if member.folder.joinpath("member.json").is_file() and self._already(plan, views):
                shutil.rmtree(aside, ignore_errors=True)
                return
            finished = [self._fold(plan, member, fold, views, aside) for fold in range(member.record.folds)]
            self._replace(plan, member, finished, views)
            shutil.rmtree(aside, ignore_errors=True)

    def _already(self, plan: MemberPlan, views: Sequence[View]) -> bool:
        record = self.workspace.store.member(plan.job.name).record
        return {view.name for view in views} <= set(record.views)

    def _fold(self, plan: MemberPlan, member: Member, fold: int, views: Sequence[View], aside: Path) -> FinishedFold:
        if fold_path(aside, fold).is_file():
            return read_finished_fold(aside, fold)
        began = time.perf_counter()
        train_images, test_images = self.workspace.image_rows
        valid = np.flatnonzero(member.folds == fold).astype(np.int64)
        rows = np.concatenate([train_images[valid], test_images])
        logits = self.predict(plan, member, fold, plan.pixels, rows, views)
        record = {"views": [view.name for view in views], "seconds_predicting": time.perf_counter() - began}
        finished = FinishedFold(fold, valid, logits[:, : len(valid)], logits[:, len(valid) :], record)
        write_finished_fold(aside, finished)
        names = ", ".join(view.name for view in views)
        self.workspace.progress.fold_done(FoldJob(plan.job.name, fold, 0), f"views {names}")
        return finished

    def predict(
        self,
        plan: MemberPlan,
        member: Member,
        fold: int,
        pixels: Pixels,
        rows: NDArray[np.int64],
        views: Sequence[View],
    ) -> NDArray[np.float32]:
        """Logits `[views, rows, classes]` of one checkpoint; its file is checked first."""
        from ensembler.inference.predict import predict_logits
        from ensembler.networks.checkpoint import load_checkpoint

        network = load_checkpoint(checked_weights(member, fold), self.device)
        progress = self.workspace.progress
        logits = predict_logits(
            [network],
            pixels,
            rows,
            views,
            classes=len(plan.classes),
            amp=plan.job.base.amp,
            device=self.device,
            batch_size=plan.prediction_batch,
            on_batch=lambda done, total: progress.step(f"predicting {plan.job.name} fold {fold}", done, total),
        )[0]
        if not np.isfinite(logits).all():
            raise StoreError(f"member {member.name!r} fold {fold}: its network gives logits that are not finite")
        return logits

    def _replace(
        self, plan: MemberPlan, member: Member, finished: Sequence[FinishedFold], views: Sequence[View]
    ) -> None:
        store = self.workspace.store
        with replacing(plan.final_folder, store.lock_path) as prepared:
            scores = write_logits(plan, prepared, finished, before=member)
            content = read_json(plan.final_folder / "member.json")
            seconds = sum(float(fold.record["seconds_predicting"]) for fold in finished)
            phases = dict(content.get("seconds_by_phase") or {})
            phases["predicting"] = float(phases.get("predicting") or 0) + seconds
            content |= {
                "views": [*member.record.views, *(view.name for view in views)],
                "scores": scores,
                "seconds_by_phase": phases,
                "sha256": {**content["sha256"], **checksums(prepared, array_files(plan))},
            }
            write_json(prepared / "member.json", content)


def checked_weights(member: Member, fold: int) -> Path:
    """The weights of a fold, when they are the file that `member.json` describes."""
    path = member.folder / f"fold{fold}.safetensors"
    wanted = member.record.sha256.get(path.name)
    if wanted is None:
        raise StoreError(f"member {member.name!r} keeps no weights of fold {fold} ({path.name}); it cannot predict")
    if sha256_of(path) != wanted:
        raise StoreError(f"{path} is not the file that member.json describes (its sha256 differs); restore it")
    return path


def predict_missing_views(workspace: Workspace, device: str) -> ViewsResult:
    """Compute the views of the recipe that complete members lack."""
    from ensembler.inference.views import expand_views

    return ViewPredictor(workspace, device).add_views(expand_views(workspace.spec.views))
