"""Training the K-fold members of a recipe: every fold that is missing, whatever happened before.

A fold goes through three states, each a file: training (`fold<k>.state`), trained
(`fold<k>.safetensors`, the weights) and finished (`fold<k>.logits.safetensors`, its validation and
test logits). Any instant is good to die; several processes share the folds of a run by claiming
them one at a time.
"""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ensembler.errors import DiskFullError, EnsemblerError, NotFiniteError, TrainingError
from ensembler.files import claim, read_json, sha256_of, write_bytes, write_json
from ensembler.members.averages import assemble_members
from ensembler.members.complete import FAILED, complete_member, drop_stale
from ensembler.members.engines import Engines
from ensembler.members.executor import Executor, Failure
from ensembler.members.option_claims import claim_options
from ensembler.members.plan import MemberPlan
from ensembler.members.soup import Kitchen
from ensembler.members.training import Training, group_trainings
from ensembler.predictions.finished_folds import (
    FinishedFold,
    read_finished_fold,
    weights_path,
    write_finished_fold,
)
from ensembler.progress import Epoch, FoldJob
from ensembler.recipe.members import MemberJob
from ensembler.training.spec import EnsembleSpec, SoupSpec
from ensembler.workspace.workspace import Workspace, keep_choice, kept_choice

if TYPE_CHECKING:
    from ensembler.inference.predictor import Predictor
    from ensembler.training.compiling import CompileChoice
    from ensembler.training.fold import TrainedFold


SHORT_CYCLE = 100  # steps: after fewer, the first snapshots are hardly trained (docs/members.md)


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

    An `executor` trains folds elsewhere first. `on_fold` is called after each finished fold of this
    process (or of those it started), for instance to renew the submission. A trainer that `helps`
    another one leaves to that one what is to be dropped or tried again.
    """

    workspace: Workspace
    device: str = "auto"
    workers: int | None = None
    executor: Executor | None = None
    on_fold: Callable[[], None] | None = None
    helps: bool = False
    trained: list[FoldJob] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    kitchens: dict[str, Kitchen] = field(default_factory=dict)

    def train(self, jobs: Sequence[MemberJob], folds: Sequence[int] | None = None) -> KFoldResult:
        """Train the missing folds of `jobs` (only `folds` when given) and complete the members that have them all."""
        from ensembler.networks.devices import pick_device, use_available_cores

        use_available_cores()
        pick_device(self.device)  # one that is not there concerns the request, not each member
        plans = [MemberPlan(self.workspace, job) for job in jobs if not job.parts]
        for plan in plans:
            plan.check_folds(folds)
            plan.check_classes()
        trainings = group_trainings(plans)
        with ExitStack() as claims:
            for training in trainings:
                claims.enter_context(claim_options(training))
            self._train_claimed(trainings, jobs, folds)
        for training in trainings:
            training.remove_empty_folders()
        assemble_members(self.workspace, jobs)
        done = set(self.workspace.store.complete_members)
        names = [job.name for job in jobs]
        return KFoldResult(
            run=self.workspace.store.name,
            complete=tuple(n for n in names if n in done),
            incomplete=tuple(n for n in names if n not in done),
            trained=tuple(self.trained),
            failures=tuple(self.failures),
        )

    def _train_claimed(
        self, trainings: Sequence[Training], jobs: Sequence[MemberJob], folds: Sequence[int] | None
    ) -> None:
        for plan in [plan for training in trainings for plan in training.plans if not self.helps]:
            drop_stale(plan)
        missing = {training.name: training.missing(folds) for training in trainings}
        self.workspace.progress.plan(
            [t.fold_job(fold) for t in trainings for fold in missing[t.name]]
        )
        if self.executor is not None:
            self._train_elsewhere(
                self.executor, jobs, folds, n_folds=sum(map(len, missing.values()))
            )
        # What processes that died have left, or everything.
        self._train_unclaimed(trainings, missing)
        for training in trainings:
            for plan in training.plans:
                if not plan.is_complete and not self._has_failed(training):
                    self._complete(training, plan)
            training.tidy()

    def _train_elsewhere(
        self,
        executor: Executor,
        jobs: Sequence[MemberJob],
        folds: Sequence[int] | None,
        *,
        n_folds: int,
    ) -> None:
        shared = executor.train(
            self.workspace,
            [job.name for job in jobs],
            folds,
            n_folds=n_folds,
            device=self.device,
            workers=self.workers,
            on_fold=self.on_fold,
        )
        if shared is not None:
            self.trained.extend(shared.trained)
            self.failures.extend(shared.failures)

    def _train_unclaimed(
        self, trainings: Sequence[Training], missing: dict[str, list[int]]
    ) -> None:
        # First whatever nobody else works on; then wait for the others' folds, and take over those
        # of the dead.
        for wait in (False, True):
            for training in trainings:
                for fold in missing[training.name]:
                    self._train_one(training, fold, wait=wait)

    def _train_one(self, training: Training, fold: int, *, wait: bool) -> None:
        lacking = training.lacks(fold)
        if lacking:
            if wait:
                self.workspace.progress.note(f"{training.name} fold {fold} waits for {lacking}")
            return
        with claim(training.folder / f".fold{fold}.lock", wait=wait) as ours:
            if not ours or self._has_failed(training) or not training.unfinished(fold):
                return
            try:
                with training.memory_advice:
                    self._finish(training, fold)
            except Exception as error:
                if _concerns_all(error):
                    raise
                self._fail(training, fold, error)
                return
        if self.on_fold is not None:
            self.on_fold()

    def _finish(self, training: Training, fold: int) -> None:
        plans = training.unfinished(fold)
        for plan in plans:
            plan.drop_altered_weights(fold)
        if not all(plan.trained_weights(fold) for plan in plans):
            self._fit(training, fold)
            self.trained.append(training.fold_job(fold))
        for plan, finished in self._predict(training, plans, fold):
            write_finished_fold(plan.folder, finished)
            training.progress_done(plan, fold, finished)
        training.forget(fold)

    def _fit(self, training: Training, fold: int) -> None:
        """Train a fold and write the weights of every member that comes of it and lacks them."""
        from ensembler.networks.checkpoint import save_checkpoint

        trained = self._train(training, fold)
        for plan in training.all_plans:
            if plan.trained_weights(fold):
                continue
            shape = {
                "classes": len(plan.classes),
                "size": plan.input.size,
                "channels": plan.input.channels,
            }
            description = {
                "fingerprint": plan.fingerprint,
                "member": plan.job.name,
                "fold": fold,
                "classes": list(plan.classes),
                "tasks": {
                    target: [part.start, part.stop] for target, part in plan.task_slices.items()
                },
                "seconds": trained.seconds / len(training.all_plans),
                "chosen_epoch": trained.epoch_of(plan.job.weights),
                "history": [record.to_json() for record in trained.history],
                **({"made_of": list(trained.made_of)} if trained.made_of else {}),
            }
            network = trained.networks[plan.job.weights]
            plan.folder.mkdir(parents=True, exist_ok=True)
            save_checkpoint(
                weights_path(plan.folder, fold), network, plan.job.base, shape, description
            )

    def _train(self, training: Training, fold: int) -> TrainedFold:
        from ensembler.data.augment import build_augment
        from ensembler.training.ensembles import train_ensemble
        from ensembler.training.fold import train_fold

        first, progress = training.all_plans[0], self.workspace.progress
        spec, base = first.job.spec, first.job.base
        if isinstance(spec, SoupSpec):
            kitchen = self.kitchens.setdefault(training.name, Kitchen(first, spec, self.device))
            return kitchen.cook(fold)
        data = first.fold_data(fold)
        self._note_short_cycles(training, len(data.train_rows))
        options: dict[str, Any] = {
            "augment": build_augment(
                base.augment or self.workspace.spec.augment, first.input.size, first.input.channels
            ),
            "seed": first.seed,
            "fold": fold,
            "device": self.device,
            "on_epoch": lambda r: progress.epoch(
                Epoch(training.name, fold, r.epoch, r.epochs, r.loss, r.score, r.seconds)
            ),
        }
        if isinstance(spec, EnsembleSpec):
            return train_ensemble(spec, data, **options)
        choice = kept_choice(self.workspace.store, "compile", training.name, training.fingerprint)
        return train_fold(
            spec,
            data,
            weights=[plan.job.weights for plan in training.all_plans],
            identity=training.fingerprint,
            workers=self.workers,
            state_path=training.state_path(fold),
            on_note=lambda text: progress.note(f"{training.name} fold {fold}: {text}"),
            compiled=None if choice is None else choice["compiled"],
            on_compile_choice=lambda measured: self._keep_compile_choice(training, measured),
            **options,
        )

    def _note_short_cycles(self, training: Training, n_rows: int) -> None:
        """Say, with the first fold of a training, that its snapshots may be poor."""
        spec = training.all_plans[0].job.spec
        if isinstance(spec, SoupSpec) or spec.cycle_epochs is None:
            return
        steps = spec.cycle_epochs * math.ceil(n_rows / spec.batch_size)
        if any(job.member == training.name for job in self.trained):
            return
        if steps < SHORT_CYCLE:
            self.workspace.progress.note(
                f"{training.name}: a cycle has {steps} steps, and networks after so few may be "
                "poor; more epochs, "
                "fewer cycles or a higher lr help"
            )

    def _keep_compile_choice(self, training: Training, measured: CompileChoice) -> bool:
        store, made_for = self.workspace.store, training.fingerprint
        kept = keep_choice(store, "compile", training.name, made_for, measured.to_json())
        return bool(kept["compiled"])

    def _predict(
        self, training: Training, plans: Sequence[MemberPlan], fold: int
    ) -> Iterator[tuple[MemberPlan, FinishedFold]]:
        """The logits of the networks of one training, all from one pass over the pixels.

        Whole chunks outlive us.
        """
        from ensembler.inference.one_pass import Asked, run_pass
        from ensembler.networks.devices import pick_device

        ws, first = self.workspace, plans[0]
        valid, pixels = first.validated_in(fold), first.pixels
        train_images, test_images = ws.image_rows
        # Always from the files: a run that was interrupted here and one that was not see the same
        # networks.
        weights = {plan.job.name: weights_path(plan.folder, fold) for plan in plans}
        sums = {name: sha256_of(path) for name, path in weights.items()}
        engines, kind = Engines(ws, self.device), pick_device(self.device).type
        asked = [
            Asked(
                name=plan.job.name,
                path=weights[plan.job.name],
                classes=len(plan.classes),
                views=plan.views,
                rows=(train_images[valid], test_images),
                out=training.predicted_path(
                    plan, fold, [sums[plan.job.name], engines.of(plan, path, pixels), kind]
                ),
            )
            for plan, path in zip(plans, weights.values(), strict=True)
        ]
        plan_of = {plan.job.name: plan for plan in plans}

        def load(missing: Sequence[Asked]) -> list[Predictor]:
            return [
                engines.predictor(
                    plan_of[a.name], a.path, pixels, np.concatenate(a.rows), f"{a.name} fold {fold}"
                )
                for a in missing
            ]

        try:
            logits = run_pass(asked, pixels, load, device=self.device)
        except NotFiniteError as error:
            raise _not_finite(plan_of[error.network], fold) from error
        for plan, found in zip(plans, logits, strict=True):
            description = plan.trained_weights(fold)
            assert description is not None
            record = {
                **description,
                "views": list(plan.view_names),
                "weights_sha256": sums[plan.job.name],
                "samples_sha256": ws.store.samples_sha256,
                "seconds_predicting": sum(found.seconds.values()),
            }
            yield (
                plan,
                FinishedFold(
                    fold, valid, found.array[:, : len(valid)], found.array[:, len(valid) :], record
                ),
            )

    def _fail(self, training: Training, fold: int, error: Exception) -> None:
        detail = (
            str(error) if isinstance(error, EnsemblerError) else f"{type(error).__name__}: {error}"
        )
        failure = _failure(training, fold, detail)
        for plan in training.plans:
            plan.folder.mkdir(parents=True, exist_ok=True)
            if not isinstance(error, EnsemblerError):
                write_bytes(plan.folder / "failed.log", traceback.format_exc().encode())
            write_json(
                plan.folder / FAILED,
                {"fold": fold, "message": detail, "fingerprint": plan.fingerprint},
            )
        self.failures.append(failure)
        self.workspace.progress.failed(training.name)
        self.workspace.progress.warn(f"{failure.message}; the other members go on")

    def _has_failed(self, training: Training) -> bool:
        """Whether a fold of it failed here, or in another process that shares the run."""
        if any(failure.member == training.name for failure in self.failures):
            return True
        for plan in training.plans:
            path = plan.folder / FAILED
            told = read_json(path) if path.is_file() else {}
            if told.get("fingerprint") == plan.fingerprint:
                self.failures.append(_failure(training, int(told["fold"]), str(told["message"])))
                return True
        return False

    def _complete(self, training: Training, plan: MemberPlan) -> None:
        folds = range(plan.n_folds)
        try:
            if all(plan.is_finished(fold) for fold in folds):
                complete_member(plan, [read_finished_fold(plan.folder, fold) for fold in folds])
        except Exception as error:
            if plan.is_complete:  # another process was faster, and has removed what was being read
                return
            if _concerns_all(error):
                raise
            self._fail(training, plan.n_folds - 1, error)


def _failure(training: Training, fold: int, detail: str) -> Failure:
    return Failure(training.name, fold, f"member {training.name!r} fold {fold}: {detail}")


def _concerns_all(error: Exception) -> bool:
    """Whether an error stops the whole run, as that of a disk does, and not one member alone."""
    return isinstance(error, DiskFullError) or (
        isinstance(error, OSError) and not isinstance(error, EnsemblerError)
    )


def _not_finite(plan: MemberPlan, fold: int) -> TrainingError:
    history = (plan.trained_weights(fold) or {}).get("history") or [{}]
    return TrainingError(
        f"the network's logits are not finite after epoch {history[-1].get('epoch')} "
        f"(learning rate {plan.job.base.lr:g}); a lower lr or clip_grad helps"
    )
