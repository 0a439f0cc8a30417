"""Training the K-fold members of a recipe: every fold that is missing, whatever happened before.

A fold goes through three states, each a file: training (`fold<k>.state`), trained (`fold<k>.safetensors`, the
weights) and finished (`fold<k>.logits.safetensors`, its validation and test logits). Any instant is good to die;
several processes share the folds of a run by claiming them one at a time.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensembler.errors import EnsemblerError, RequestError, TrainingError
from ensembler.files import claim, sha256_of, write_json
from ensembler.pipeline.completion import FAILED, complete_member, drop_stale
from ensembler.pipeline.member_plan import MemberPlan
from ensembler.pipeline.progress import Epoch, FoldJob
from ensembler.pipeline.workspace import MemberJob, Workspace
from ensembler.predictions.finished_folds import FinishedFold, read_finished_fold, weights_path, write_finished_fold


@dataclass(frozen=True)
class Failure:
    """A member that could not be trained, and why."""

    member: str
    fold: int
    message: str


@dataclass(frozen=True)
class KFoldResult:
    """What `ens kfold` did: the members now complete, the folds trained by this process, the failures."""

    run: str
    complete: tuple[str, ...]
    incomplete: tuple[str, ...]
    trained: tuple[FoldJob, ...]
    failures: tuple[Failure, ...] = ()


@dataclass(frozen=True)
class Trainer:
    """Trains what is missing of a workspace's members.

    `on_fold` is called after each finished fold of this process, for instance to renew the submission.
    """

    workspace: Workspace
    device: str = "auto"
    workers: int = 0
    on_fold: Callable[[], None] | None = None
    trained: list[FoldJob] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)

    def train(self, jobs: Sequence[MemberJob], folds: Sequence[int] | None = None) -> KFoldResult:
        """Train the missing folds of `jobs` (only `folds` when given) and complete the members that have them all."""
        plans = [MemberPlan(self.workspace, job) for job in jobs]
        for plan in plans:
            plan.check_folds(folds)
            drop_stale(plan)
        missing = {plan.job.name: plan.missing(folds) for plan in plans}
        self.workspace.progress.plan(
            [FoldJob(p.job.name, f, p.job.spec.epochs) for p in plans for f in missing[p.job.name]]
        )
        self._train_unclaimed(plans, missing)
        for plan in plans:
            self._complete(plan)
        done = set(self.workspace.store.complete_members)
        names = [plan.job.name for plan in plans]
        return KFoldResult(
            run=self.workspace.store.name,
            complete=tuple(n for n in names if n in done),
            incomplete=tuple(n for n in names if n not in done),
            trained=tuple(self.trained),
            failures=tuple(self.failures),
        )

    def _train_unclaimed(self, plans: Sequence[MemberPlan], missing: dict[str, list[int]]) -> None:
        # First whatever nobody else works on; then wait for the others' folds, and take over those of the dead.
        for wait in (False, True):
            for plan in plans:
                for fold in missing[plan.job.name]:
                    if not self._has_failed(plan):
                        self._train_one(plan, fold, wait=wait)

    def _train_one(self, plan: MemberPlan, fold: int, *, wait: bool) -> None:
        plan.folder.mkdir(parents=True, exist_ok=True)
        with claim(plan.folder / f".fold{fold}.lock", wait=wait) as ours:
            if not ours or plan.is_finished(fold) or plan.is_complete:
                return
            try:
                self._finish(plan, fold)
            except (KeyboardInterrupt, OSError, RequestError):
                raise
            except Exception as error:
                self._fail(plan, fold, error)
                return
        if self.on_fold is not None:
            self.on_fold()

    def _finish(self, plan: MemberPlan, fold: int) -> None:
        job = FoldJob(plan.job.name, fold, plan.job.spec.epochs)
        description = plan.trained_weights(fold)
        if description is None:
            description = self._fit(plan, fold)
            self.trained.append(job)
        finished = self._predict(plan, fold, description)
        write_finished_fold(plan.folder, finished)
        plan.state_path(fold).unlink(missing_ok=True)
        self.workspace.progress.fold_done(job, plan.describe(finished))

    def _fit(self, plan: MemberPlan, fold: int) -> dict[str, Any]:
        from ensembler.data.augment import build_augment
        from ensembler.networks.checkpoint import save_checkpoint
        from ensembler.training.fold import train_fold

        ws, spec = self.workspace, plan.job.spec
        shape = {"classes": len(plan.classes), "size": plan.input.size, "channels": plan.input.channels}
        trained = train_fold(
            spec,
            plan.fold_data(fold),
            augment=build_augment(spec.augment or ws.spec.augment, plan.input.size, plan.input.channels),
            seed=plan.seed,
            fold=fold,
            device=self.device,
            workers=self.workers,
            state_path=plan.state_path(fold),
            on_epoch=lambda r: ws.progress.epoch(
                Epoch(plan.job.name, fold, r.epoch, r.epochs, r.loss, r.score, r.seconds)
            ),
            on_note=lambda text: ws.progress.note(f"{plan.job.name} fold {fold}: {text}"),
        )
        description = {
            "fingerprint": plan.fingerprint,
            "member": plan.job.name,
            "fold": fold,
            "classes": list(plan.classes),
            "tasks": {target: [part.start, part.stop] for target, part in plan.task_slices.items()},
            "seconds": trained.seconds,
            "chosen_epoch": trained.chosen_epoch,
            "history": [r.__dict__ for r in trained.history],
        }
        save_checkpoint(weights_path(plan.folder, fold), trained.network, spec, shape, description)
        return description

    def _predict(self, plan: MemberPlan, fold: int, description: dict[str, Any]) -> FinishedFold:
        from ensembler.inference.predict import predict_logits
        from ensembler.networks.checkpoint import load_checkpoint

        path = weights_path(plan.folder, fold)
        began = time.perf_counter()
        # Always from the file: a run that was interrupted here and one that was not see the same network.
        network = load_checkpoint(path, self.device)
        valid = plan.validated_in(fold)
        train_images, test_images = self.workspace.image_rows
        rows = np.concatenate([train_images[valid], test_images])
        logits = predict_logits(
            [network],
            plan.pixels,
            rows,
            plan.views,
            classes=len(plan.classes),
            device=self.device,
            batch_size=plan.prediction_batch,
            amp=plan.job.spec.amp,
        )[0]
        _check_logits(logits, plan, description)
        record = {
            **description,
            "views": list(plan.view_names),
            "weights_sha256": sha256_of(path),
            "samples_sha256": self.workspace.store.samples_sha256,
            "seconds_predicting": time.perf_counter() - began,
        }
        return FinishedFold(fold, valid, logits[:, : len(valid)], logits[:, len(valid) :], record)

    def _fail(self, plan: MemberPlan, fold: int, error: Exception) -> None:
        detail = str(error) if isinstance(error, EnsemblerError) else f"{type(error).__name__}: {error}"
        failure = Failure(plan.job.name, fold, f"member {plan.job.name!r} fold {fold}: {detail}")
        if not isinstance(error, EnsemblerError):
            (plan.folder / "failed.log").write_text(traceback.format_exc())
        write_json(plan.folder / FAILED, {"fold": fold, "message": detail, "fingerprint": plan.fingerprint})
        self.failures.append(failure)
        self.workspace.progress.warn(f"{failure.message}; the other members go on")

    def _has_failed(self, plan: MemberPlan) -> bool:
        return any(failure.member == plan.job.name for failure in self.failures)

    def _complete(self, plan: MemberPlan) -> None:
        if plan.is_complete or self._has_failed(plan):
            return
        folds = range(plan.n_folds)
        if all(plan.is_finished(fold) for fold in folds):
            complete_member(plan, [read_finished_fold(plan.folder, fold) for fold in folds])


def _check_logits(logits: NDArray[np.float32], plan: MemberPlan, description: dict[str, Any]) -> None:
    if not np.isfinite(logits).all():
        history = description.get("history") or [{}]
        raise TrainingError(
            f"the network's logits are not finite after epoch {history[-1].get('epoch')} "
            f"(learning rate {plan.job.spec.lr:g}); a lower lr or clip_grad helps"
        )
