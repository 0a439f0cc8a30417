"""One fold of one training: claimed, trained, predicted and kept, whatever happened before.

A fold goes through three states, each a file: training (`fold<k>.state`), trained
(`fold<k>.safetensors`, the weights) and finished (`fold<k>.logits.safetensors`, its validation and
test logits). Any instant is good to die.
"""

from __future__ import annotations

import math
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypedDict

from ensembler.errors import (
    DeviceLostError,
    DiskFullError,
    EnsemblerError,
    NotFiniteError,
    OutOfMemoryError,
    TrainingError,
)
from ensembler.files import claim, read_json, sha256_of, write_bytes, write_json
from ensembler.machine.environment import environment
from ensembler.machine.execution import Execution
from ensembler.members.engines import Engines
from ensembler.members.executor import Failure, FinishedTask, FoldResult, LeftOut
from ensembler.members.fitted_fold import fitted_fold
from ensembler.members.fold_stop import FoldOverruns, FoldStop, WatchedProgress
from ensembler.members.fold_watch import FoldWatch
from ensembler.members.plan import MemberPlan
from ensembler.members.predict import predict_checkpoints
from ensembler.members.prices import PriceList, workload_of
from ensembler.members.short_folds import has_finished_folds, is_short, shortened
from ensembler.members.soup import SoupBuilder
from ensembler.members.training import Training
from ensembler.predictions.finished_folds import (
    FinishedFold,
    weights_path,
    write_finished_fold,
)
from ensembler.predictions.members import FAILED
from ensembler.predictions.store import RunStore
from ensembler.progress import FoldTask, Progress
from ensembler.stop import Stop, Stopped
from ensembler.training.spec import (
    WITHOUT_EPOCHS,
    EnsembleSpec,
    FittedSpec,
    MemberSpec,
    SoupSpec,
)
from ensembler.training.trained import EndedEarly
from ensembler.workspace.lock import keep_choice, keep_smallest, kept_choice
from ensembler.workspace.workspace import Workspace

if TYPE_CHECKING:
    from ensembler.data.on_device.choose import ChosenAugment
    from ensembler.inference.one_pass import PredictionRequest
    from ensembler.training.step_choice import Kind, StepChoice, StepDecision
    from ensembler.training.trained import TrainedFold
    from ensembler.training.turns import Turns

SHORT_CYCLE = (
    100  # steps: after fewer, the first snapshots are hardly trained (docs/members.md)
)


AT_ONCE = "images_at_once"  # of a batch, in the lock and in records
_FEWEST_AT_ONCE = 2  # batch norms have no statistics of one image


class _Reporting(TypedDict):
    """Where a training reports to, and what may stop it."""

    name: str
    progress: Progress
    stop: Stop


@dataclass(frozen=True)
class FoldTrainer:
    """Does folds of `trainings`, by name, in this process, one after the other."""

    workspace: Workspace
    trainings: Mapping[str, Training]
    execution: Execution
    stop: Stop
    soup_builders: dict[str, SoupBuilder] = field(default_factory=dict)
    looked_at_cycles: set[str] = field(default_factory=set)
    looked_at_augment: set[str] = field(default_factory=set)
    step_decisions: dict[str, StepDecision] = field(default_factory=dict)
    overran: set[FoldTask] = field(default_factory=set)
    turns: Turns | None = None  # how folds share this process; None: one at a time
    # whether it says what fits before the deadline, and takes unfinished networks where there is
    # nothing else; somebody else does where it does not see the run
    judges_time: bool = True

    @cached_property
    def prices(self) -> PriceList:
        """What folds cost on this machine."""
        return PriceList.of(self.workspace, self.execution)

    def finish(self, task: FoldTask, *, wait: bool) -> FoldResult | None:
        """Do whatever a fold lacks.

        None when there is nothing to do, or (unless `wait`) when another process works on it.
        Raises what concerns all members, such as a full disk.
        """
        training = self.trainings[task.training]
        needed = training.lacks(task.fold)
        if needed:
            if wait:
                text = f"{training.name} fold {task.fold} waits for {needed}"
                self.workspace.progress.note(text)
            return None
        lock = training.folder / f".fold{task.fold}.lock"
        with claim(lock, wait=wait, check=self.stop.check) as is_ours:
            return self._finish_claimed(training, task) if is_ours else None

    def _finish_claimed(self, training: Training, task: FoldTask) -> FoldResult | None:
        failure = failure_of(training)
        if failure is not None or not training.unfinished(task.fold):
            return failure
        try:
            if not training.sees_images:
                return self._finish(training, task)
            with training.memory_advice, self._lost_device():
                return self._finish(training, task)
        except Exception as error:
            if concerns_all(error):
                raise
            return record_failure(training, task.fold, error)

    def _lost_device(self) -> AbstractContextManager[None]:
        from ensembler.networks.devices import pick_device
        from ensembler.networks.lost import lost_device

        return lost_device(pick_device(self.execution.device))

    def _finish(self, training: Training, task: FoldTask) -> FinishedTask | LeftOut:
        fold, plans = task.fold, training.unfinished(task.fold)
        for plan in plans:
            plan.on_disk.drop_altered_weights(fold)
        needs_training = not all(plan.on_disk.checkpoint_header(fold) for plan in plans)
        if needs_training and self.judges_time:
            reason = self.why_no_time(training, task)
            if reason is not None:
                return LeftOut(task, reason)
        if isinstance(plans[0].member.spec, FittedSpec):
            return self._fit(training, task, was_fitted=needs_training)
        watch = FoldWatch(training, fold)
        if needs_training:
            try:
                self._keep_weights(training, fold, self._train_with_room(training, fold))
            except FoldOverruns as error:
                self.overran.add(task)
                return LeftOut(task, str(error))
            except EndedEarly as ended:
                return self._finish_short(training, task, ended.trained)
        for plan, finished in self._predict(training, plans, fold):
            write_finished_fold(plan.on_disk.folder, finished)
            watch.finished(finished)
            training.progress_done(plan, fold, finished)
        training.forget(fold)
        if needs_training:
            watch.keep(self.prices)
        return FinishedTask(task, was_trained=needs_training)

    def _fit(self, training: Training, task: FoldTask, *, was_fitted: bool) -> FinishedTask:
        """A fold of a member without a training: its heads fitted on tables of numbers."""
        (plan,) = training.plans
        finished = fitted_fold(plan, task.fold, self.execution)
        write_finished_fold(plan.on_disk.folder, finished)
        training.progress_done(plan, task.fold, finished)
        return FinishedTask(task, was_trained=was_fitted)

    def why_no_time(self, training: Training, task: FoldTask) -> str | None:
        """Why a fold may not begin before the deadline; None when it may.

        One that has begun is always resumed: what is trained of it is kept, however far it gets.
        """
        left = self.stop.seconds_left
        if left is None or is_short(training.name):
            return None
        if task in self.overran:
            return "it would not end in time; what is trained of it is kept"
        whole = self.prices.fold(training, task.fold)
        has_begun = training.state_path(task.fold).is_file()
        if whole.high <= left or (has_begun and left > 0):
            return None
        if whole.expected <= left and not has_finished_folds(self.workspace.store):
            return None
        return f"it takes up to {whole.high:.0f} s, and {left:.0f} s are left for training"

    def _finish_short(
        self, training: Training, task: FoldTask, trained: TrainedFold
    ) -> FinishedTask:
        """Keep a network whose training ended early, and its logits, as a member of its own."""
        short = training
        if not is_short(training.name):
            made = shortened(training, len(trained.history))
            assert made is not None
            short = made
        self._keep_weights(short, task.fold, trained)
        for plan, finished in self._predict(short, short.plans, task.fold):
            write_finished_fold(plan.on_disk.folder, finished)
            short.progress_done(plan, task.fold, finished)
        short.forget(task.fold)
        self.overran.add(task)
        return FinishedTask(task, was_trained=True, is_short=True)

    def _keep_weights(self, training: Training, fold: int, trained: TrainedFold) -> None:
        """Write the weights of every member that comes of a training and lacks them."""
        from ensembler.networks.checkpoint import save_checkpoint

        for plan in training.all_plans:
            if plan.on_disk.checkpoint_header(fold):
                continue
            shape = {
                "classes": len(plan.output.classes),
                "size": plan.input.size,
                "channels": plan.input.channels,
            }
            header = _checkpoint_header(training, plan, fold, trained)
            header["environment"] = environment_here(self.execution)
            network = trained.networks[plan.member.variant]
            plan.on_disk.folder.mkdir(parents=True, exist_ok=True)
            path = weights_path(plan.on_disk.folder, fold)
            save_checkpoint(path, network, plan.member.base, shape, header)

    def _train_with_room(self, training: Training, fold: int) -> TrainedFold:
        """Train a fold; where it runs out of memory, with less of it, until there is enough."""
        while True:
            try:
                with training.memory_advice:
                    return self._train(training, fold)
            except OutOfMemoryError:
                how = self._make_room(training)
                if how is None:
                    raise
            # Not inside the handler: there the error would still hold what the attempt has made.
            prefix = f"{training.name} fold {fold} ran out of memory"
            self.workspace.progress.note(f"{prefix}: {how}")

    def _make_room(self, training: Training) -> str | None:
        """Let a training need less memory, and say how; None where there is nothing left to do.

        Pixels on the device are given up first, then batches go through the network in halves of
        halves.
        """
        from ensembler.data.on_device.store import give_up_pixels

        if give_up_pixels():
            return (
                "pixels no longer stay on the device and are copied to it batch by batch; "
                "ENS_DEVICE_CACHE_GB sets their room"
            )
        spec = training.all_plans[0].member.spec
        if not isinstance(spec, MemberSpec):
            return None
        half = (self._images_at_once(training) or spec.batch_size) // 2
        if half < _FEWEST_AT_ONCE:
            return None
        store, name = self.workspace.store, training.name
        keep_smallest(store, AT_ONCE, name, training.fingerprint, half)
        return (
            f"batches of {spec.batch_size} go through the network in parts of {half} images, "
            "with steps as large as before"
        )

    def _images_at_once(self, training: Training) -> int | None:
        """How many images of a batch go through the network together, as the lock says."""
        # as the lock is now: another fold may have run out of memory since it was opened
        store = RunStore(self.workspace.store.folder)
        kept = kept_choice(store, AT_ONCE, training.name, training.fingerprint)
        return None if kept is None else int(kept[AT_ONCE])

    def _train(self, training: Training, fold: int) -> TrainedFold:
        from ensembler.training.ensembles import train_ensemble
        from ensembler.training.fold import train_fold
        from ensembler.training.setup import FoldSetup
        from ensembler.training.turns import ALONE

        first = training.all_plans[0]
        spec = first.member.spec
        if isinstance(spec, SoupSpec):
            builder = SoupBuilder(first, spec, self.execution.device)
            return self.soup_builders.setdefault(training.name, builder).build(fold)
        assert not isinstance(spec, FittedSpec)
        data = first.rows.fold_data(fold, first.pixels)
        self._note_short_cycles(training, len(data.train_rows))
        stop = self._fold_stop(training, fold)
        prefix = f"{training.name} fold {fold}"
        reporting: _Reporting = {
            "name": training.name,
            "progress": WatchedProgress(self.workspace.progress, prefix, stop),
            "stop": stop,
        }
        augment = self._augment(training, reporting["progress"])
        if isinstance(spec, EnsembleSpec):
            device = self.execution.device
            trained = train_ensemble(
                spec,
                data,
                augment=augment.augment,
                seed=first.seed,
                fold=fold,
                device=device,
                **reporting,
            )
            return replace(trained, augmented_on=augment.where)
        weights = tuple(plan.member.variant for plan in training.all_plans)
        setup = FoldSetup(
            spec,
            data,
            weights,
            augment.identity(training.fingerprint),
            augment.augment,
            first.seed,
            fold,
            self._images_at_once(training),
        )
        trained = train_fold(
            setup,
            execution=self.execution,
            state_path=training.state_path(fold),
            step_decision=self._step_decision(training),
            turns=self.turns or ALONE,
            **reporting,
        )
        at_once = setup.images_at_once
        return replace(trained, augmented_on=augment.where, images_at_once=at_once)

    def _fold_stop(self, training: Training, fold: int) -> FoldStop:
        """When a fold has to end, so that there is time to predict with its network."""
        after = 0.0
        if self.stop.seconds_left is not None:
            work = workload_of(training, fold)
            after = self.prices.price(training).predicting(work).expected
        spec = training.all_plans[0].member.spec
        # snapshots and averages of epochs that do not come are no networks
        is_whole = isinstance(spec, MemberSpec) and not spec.cycle_ends and not spec.also
        takes = self.judges_time and self.stop.may_shorten and is_whole
        store = self.workspace.store
        return FoldStop(self.stop, after, lambda: takes and not has_finished_folds(store))

    def _note_short_cycles(self, training: Training, n_rows: int) -> None:
        """Say, with the first fold of a training, that its snapshots may be poor."""
        spec = training.all_plans[0].member.spec
        if isinstance(spec, WITHOUT_EPOCHS) or spec.cycle_epochs is None:
            return
        if training.name in self.looked_at_cycles:
            return
        self.looked_at_cycles.add(training.name)
        steps = spec.cycle_epochs * math.ceil(n_rows / spec.batch_size)
        if steps < SHORT_CYCLE:
            self.workspace.progress.note(
                f"{training.name}: a cycle has {steps} steps, and networks after so few may be "
                "poor; more epochs, fewer cycles or a higher lr help"
            )

    def _augment(self, training: Training, progress: Progress) -> ChosenAugment:
        """How images are augmented, and where: as the run's lock says, once it says it."""
        from ensembler.data.on_device.choose import choose_augment
        from ensembler.networks.devices import pick_device

        store, name, made_for = self.workspace.store, training.name, training.fingerprint
        first = training.all_plans[0]
        kept = kept_choice(store, "augment", name, made_for)
        chosen = choose_augment(
            first.augment,
            first.input.size,
            first.input.channels,
            device=pick_device(self.execution.device),
            kept=None if kept is None else str(kept["on"]),
        )
        if chosen.note and name not in self.looked_at_augment:
            self.looked_at_augment.add(name)
            progress.note(chosen.note)
        if kept is None and chosen.augment is not None:
            keep_choice(store, "augment", name, made_for, {"on": chosen.on})
        return chosen

    def _step_decision(self, training: Training) -> StepDecision:
        """What the run's lock says of a training's steps, or where it will be kept."""
        from ensembler.training.step_choice import StepDecision, kept_kind

        store, name, made_for = self.workspace.store, training.name, training.fingerprint
        # what earlier versions kept
        compiling = kept_choice(store, "compile", name, made_for)
        chosen = kept_kind(kept_choice(store, "step", name, made_for), compiling)

        def keep(measured: StepChoice) -> Kind:
            kept = keep_choice(store, "step", name, made_for, measured.to_json())
            return kept_kind(kept, None) or measured.step

        of_other_folds = self.step_decisions.setdefault(name, StepDecision())
        return replace(of_other_folds, chosen=chosen, keep=keep)

    def _predict(
        self, training: Training, plans: Sequence[MemberPlan], fold: int
    ) -> Iterator[tuple[MemberPlan, FinishedFold]]:
        """The logits of the networks of one training, all from one pass over the pixels.

        The weights are read from their files, so that a run that was interrupted here and one that
        was not use the same networks.
        """
        valid, pixels = plans[0].rows.validated_in(fold), plans[0].pixels
        sums = [sha256_of(weights_path(plan.on_disk.folder, fold)) for plan in plans]
        engines = Engines(self.workspace, self.execution)
        requests = [
            (plan, self._request(training, plan, fold, weights_sha256, engines))
            for plan, weights_sha256 in zip(plans, sums, strict=True)
        ]
        try:
            logits = predict_checkpoints(requests, pixels, engines)
        except NotFiniteError as error:
            plan_of = {request.name: plan for plan, request in requests}
            raise _not_finite(plan_of[error.network], fold) from error
        for plan, weights_sha256, found in zip(plans, sums, logits, strict=True):
            header = plan.on_disk.checkpoint_header(fold)
            assert header is not None
            record = {
                **header,
                "views": list(plan.view_names),
                "weights_sha256": weights_sha256,
                "samples_sha256": self.workspace.store.samples_sha256,
                "seconds_predicting": sum(found.seconds.values()),
            }
            oof, test = found.array[:, : len(valid)], found.array[:, len(valid) :]
            yield plan, FinishedFold(fold, valid, oof, test, record)

    def _request(
        self,
        training: Training,
        plan: MemberPlan,
        fold: int,
        weights_sha256: str,
        engines: Engines,
    ) -> PredictionRequest:
        from ensembler.inference.one_pass import PredictionRequest
        from ensembler.networks.devices import pick_device

        train_images, test_images = self.workspace.image_rows
        path = weights_path(plan.on_disk.folder, fold)
        engine = engines.of(plan, path, plan.pixels)
        made_with = [weights_sha256, engine, pick_device(self.execution.device).type]
        return PredictionRequest(
            name=f"{plan.member.name} fold {fold}",
            path=path,
            classes=len(plan.output.classes),
            views=plan.views,
            rows=(train_images[plan.rows.validated_in(fold)], test_images),
            out=training.predicted_path(plan, fold, made_with),
        )


def environment_here(execution: Execution) -> dict[str, Any]:
    """What a training in this process is computed by, which decides its last bits."""
    import torch

    from ensembler.networks.devices import pick_device

    device = pick_device(execution.device)
    name = device.type if device.type != "cuda" else torch.cuda.get_device_name(device)
    return environment(name, torch.get_num_threads())


def _checkpoint_header(
    training: Training, plan: MemberPlan, fold: int, trained: TrainedFold
) -> dict[str, Any]:
    """What is written beside the weights of a fold."""
    tasks = {
        target: [part.start, part.stop] for target, part in plan.output.task_slices.items()
    }
    special: dict[str, Any] = {"made_of": list(trained.made_of)} if trained.made_of else {}
    if trained.images_at_once is not None:
        special[AT_ONCE] = trained.images_at_once
    return {
        "fingerprint": plan.fingerprint,
        "member": plan.member.name,
        "fold": fold,
        "classes": list(plan.output.classes),
        "tasks": tasks,
        "seconds": trained.seconds / len(training.all_plans),
        "chosen_epoch": trained.epoch_of(plan.member.variant),
        "augmented_on": trained.augmented_on,
        "history": [record.to_json() for record in trained.history],
        **special,
    }


def record_failure(training: Training, fold: int, error: Exception) -> Failure:
    """Keep and report why a training failed, so that none of its other folds is tried."""
    is_ours = isinstance(error, EnsemblerError)
    detail = str(error) if is_ours else f"{type(error).__name__}: {error}"
    failure = keep_failure(
        training, fold, detail, "" if is_ours else traceback.format_exc()
    )
    progress = training.plans[0].workspace.progress
    progress.failed(training.name)
    progress.warn(f"{failure.message}; the other members are still trained")
    return failure


def keep_failure(training: Training, fold: int, detail: str, log: str = "") -> Failure:
    """Keep why a training failed, so that none of its other folds is tried."""
    for plan in training.plans:
        plan.on_disk.folder.mkdir(parents=True, exist_ok=True)
        if log:
            write_bytes(plan.on_disk.folder / "failed.log", log.encode())
        record = {"fold": fold, "message": detail, "fingerprint": plan.fingerprint}
        write_json(plan.on_disk.folder / FAILED, record)
    return _failure(training, fold, detail)


def failure_of(training: Training) -> Failure | None:
    """Why a fold of a training failed, here or in another process that shares the run."""
    for plan in training.plans:
        path = plan.on_disk.folder / FAILED
        record = read_json(path) if path.is_file() else {}
        if record.get("fingerprint") == plan.fingerprint:
            return _failure(training, int(record["fold"]), str(record["message"]))
    return None


def _failure(training: Training, fold: int, detail: str) -> Failure:
    return Failure(training.name, fold, f"member {training.name!r} fold {fold}: {detail}")


def concerns_all(error: Exception) -> bool:
    """Whether an error ends the whole job, as that of a disk or device does, not one member."""
    if isinstance(error, (DeviceLostError, DiskFullError, Stopped)):
        return True
    return isinstance(error, OSError) and not isinstance(error, EnsemblerError)


def _not_finite(plan: MemberPlan, fold: int) -> TrainingError:
    history = (plan.on_disk.checkpoint_header(fold) or {}).get("history") or [{}]
    return TrainingError(
        f"the network's logits are not finite after epoch {history[-1].get('epoch')} "
        f"(learning rate {plan.member.base.lr:g}); a lower lr or clip_grad helps"
    )
