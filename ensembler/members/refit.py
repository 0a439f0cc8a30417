"""`refit:`, networks on all rows for the test predictions of a member that its folds have scored.

A refit is a member of its own, `NAME-refit`: its out-of-fold logits are those of the folds, its
test logits those of networks that no row was left out for, which nothing has scored.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ensembler.errors import TrainingError
from ensembler.files import fingerprint
from ensembler.machine.execution import DEFAULT_EXECUTION, Execution
from ensembler.members.complete import array_files, drop_stale, forget_work, member_scores
from ensembler.members.executor import Failure, LeftOut
from ensembler.members.fold import FoldTrainer
from ensembler.members.option_claims import claim_options
from ensembler.members.plan import MemberPlan
from ensembler.members.training import Training
from ensembler.predictions.arrays import fill_array
from ensembler.predictions.finished_folds import (
    FinishedFold,
    read_finished_fold,
    weights_path,
)
from ensembler.predictions.members import (
    MEMBER_RECORD,
    Member,
    MemberRecord,
    array_file,
    checksums,
)
from ensembler.predictions.publish import replacing
from ensembler.predictions.records import write_record
from ensembler.predictions.store import RunStore
from ensembler.recipe.members import PlannedMember, refit_name
from ensembler.stop import Stop, Stopped
from ensembler.training.spec import MemberSpec, RefitSpec
from ensembler.workspace.workspace import Workspace


@dataclass(frozen=True)
class RefitPlan(MemberPlan):
    """The networks of a refit, planned like those of any member; `of` is the scored one."""

    of: str

    @cached_property
    def options(self) -> dict[str, Any]:
        """Everything that decides what the trained networks are, as plain values."""
        plan = MemberPlan(self.workspace, self.member)
        return {**plan.options, "refit_of": self.of}

    @cached_property
    def fingerprint(self) -> str:
        """A digest of options, classes in order and samples."""
        return fingerprint({**self._options, "classes": self.output.classes})


def refit_members(
    workspace: Workspace,
    selected: Sequence[PlannedMember],
    *,
    execution: Execution = DEFAULT_EXECUTION,
    stop: Stop | None = None,
) -> list[LeftOut]:
    """Make the refits that complete members ask for and that are not there.

    Return those for which there was no time: what is trained of them is kept.
    """
    left_out = []
    for planned in selected:
        asked = planned.spec.refit if isinstance(planned.spec, MemberSpec) else None
        if asked is None or planned.name not in workspace.store.complete_members:
            continue
        asking = Stop() if stop is None else stop
        refit = _Refit(workspace, planned, asked, execution, asking)
        if refit.is_there:
            continue
        missing = refit.make()
        if missing is not None:
            left_out.append(missing)
    return left_out


def is_refit_there(
    workspace: Workspace, planned: PlannedMember, execution: Execution
) -> bool:
    """Whether the refit that a member asks for is made, of the folds that are there."""
    spec = planned.spec
    asked = spec.refit if isinstance(spec, MemberSpec) else None
    if asked is None or planned.name not in workspace.store.complete_members:
        return False
    return _Refit(workspace, planned, asked, execution, Stop()).is_there


@dataclass(frozen=True)
class _Refit:
    """One refit to make."""

    workspace: Workspace
    planned: PlannedMember
    asked: RefitSpec
    execution: Execution
    stop: Stop

    @property
    def name(self) -> str:
        return refit_name(self.planned.name)

    @property
    def store(self) -> RunStore:
        return self.workspace.store

    @cached_property
    def scored(self) -> Member:
        """The member whose folds are scored."""
        return self.store.member(self.planned.name)

    @cached_property
    def plan(self) -> RefitPlan:
        """The networks on all rows, trained as long as the folds were on average."""
        spec = self.planned.spec
        assert isinstance(spec, MemberSpec)
        n_epochs = self.epochs
        all_rows = spec.model_copy(
            update={
                "epochs": n_epochs,
                "choose": "last",
                "choose_by": "log_loss",
                "patience": None,
                "val_interval": None,
                "warmup_epochs": min(spec.warmup_epochs, n_epochs - 1),
                "freeze_epochs": min(spec.freeze_epochs, n_epochs),
                "refit": None,
            }
        )
        named = replace(
            self.planned,
            name=self.name,
            training=self.name,
            spec=all_rows,
            base=all_rows,
        )
        return RefitPlan(self.workspace, named, self.scored.name)

    @property
    def epochs(self) -> int:
        """The mean of the epochs that predict in the folds."""
        chosen = [epoch for epoch in self.scored.record.chosen_epochs if epoch is not None]
        return max(1, round(float(np.mean(chosen)))) if chosen else self.planned.base.epochs

    @property
    def described(self) -> dict[str, Any]:
        """What decides the refit, its scored member's predictions among it."""
        return {
            "of": self.scored.name,
            "sha256": dict(self.scored.record.sha256),
            "seeds": self.asked.seeds,
            "predict": self.asked.predict,
            "fingerprint": self.plan.fingerprint,
            "views": list(self.plan.view_names),
        }

    @property
    def is_there(self) -> bool:
        if self.name not in self.store.complete_members:
            return False
        record = self.store.member(self.name).record
        return record.options.get("refit_by") == self.described

    def make(self) -> LeftOut | None:
        """Train the networks that are missing, and write the member.

        A network for which there is no time is returned, and nothing is written.
        """
        plan = self.plan
        training = Training(self.name, (plan,), (plan,))
        trainer = FoldTrainer(
            self.workspace, {self.name: training}, self.execution, self.stop
        )
        with claim_options([training]):
            drop_stale(plan)
            # the first numbers that no fold has: of their rows none is left out
            numbers = [plan.rows.n_folds + seed for seed in range(self.asked.seeds)]
            for number in numbers:
                task = training.task(number)
                try:
                    result = trainer.finish(task, wait=True)
                except Stopped as error:
                    return LeftOut(task, str(error))
                if isinstance(result, Failure):
                    raise TrainingError(result.message)
                if isinstance(result, LeftOut):
                    return result
            folder = plan.on_disk.folder
            self._write([read_finished_fold(folder, number) for number in numbers], folder)
            forget_work(plan)
            for number in numbers:
                training.forget(number)
                (folder / f"fold{number}.logits.safetensors").unlink(missing_ok=True)
                if self.asked.predict != "both":
                    weights_path(folder, number).unlink(missing_ok=True)
        training.remove_empty_folders()
        return None

    def _write(self, networks: Sequence[FinishedFold], folder: Path) -> None:
        plan, scored = self.plan, self.scored
        n_kept = scored.record.folds if self.asked.predict == "both" else 0
        with replacing(plan.final_folder, self.store.lock_path) as prepared:
            for fold in range(n_kept):
                name = weights_path(prepared, fold).name
                shutil.copyfile(scored.folder / name, prepared / name)
            for nth, network in enumerate(networks, start=n_kept):
                weights = weights_path(folder, network.fold)
                shutil.copyfile(weights, weights_path(prepared, nth))
            holdout = self._write_arrays(prepared, networks, n_kept)
            n_networks = n_kept + len(networks)
            files = [
                *array_files(plan),
                *(f"fold{n}.safetensors" for n in range(n_networks)),
            ]
            sums = checksums(prepared, files)
            record = self._record(networks, n_networks, sums, holdout)
            write_record(prepared / MEMBER_RECORD, record)

    def _write_arrays(
        self, prepared: Path, networks: Sequence[FinishedFold], n_kept: int
    ) -> dict[str, Any] | None:
        """Write the logits of the folds out of fold, and those of the test rows; their scores."""
        plan = self.plan
        holdout: dict[str, Any] = {}
        is_multi_task = len(plan.output.targets) > 1
        for target, part in plan.output.task_slices.items():
            task = target if is_multi_task else None
            of_target = self.scored.for_target(target)
            views = [of_target.view_index(view) for view in plan.view_names]
            oof = of_target.oof_logits
            shape = (len(views), *oof.shape[1:])
            with fill_array(prepared / array_file("oof", task), shape, np.float32) as out:
                for nth, view in enumerate(views):
                    out[nth] = oof[view]
            n_test = len(self.store.samples.test)
            shape_of_test = (
                n_kept + len(networks),
                len(views),
                n_test,
                part.stop - part.start,
            )
            file = prepared / array_file("test", task)
            with fill_array(file, shape_of_test, np.float32) as test:
                if n_kept:
                    test[:n_kept] = np.asarray(of_target.test_logits)[:, views]
                for nth, network in enumerate(networks, start=n_kept):
                    test[nth] = network.test[..., part]
                holdout[target] = member_scores(plan, target, test, "test")
        return holdout if is_multi_task else holdout[plan.output.targets[0]]

    def _record(
        self,
        networks: Sequence[FinishedFold],
        n_networks: int,
        sums: dict[str, str],
        holdout: dict[str, Any] | None,
    ) -> MemberRecord:
        plan, scored = self.plan, self.scored.record
        training = sum(float(n.record["seconds"]) for n in networks)
        predicting = sum(float(n.record["seconds_predicting"]) for n in networks)
        changes = {
            "name": self.name,
            "folds": n_networks,
            "views": plan.view_names,
            "scores": {**scored.scores, "holdout": holdout},
            "seconds": training,
            "seconds_by_phase": {"training": training, "predicting": predicting},
            "training": self.name,
            "history": tuple(n.record["history"] for n in networks),
            "chosen_epochs": (self.epochs,) * n_networks,
            "environments": tuple(n.record.get("environment") for n in networks),
            "fingerprint": plan.fingerprint,
            "options": {**plan.options, "refit_by": self.described},
            "refit_of": scored.name,
            "sha256": {**sums, "samples.csv": self.store.samples_sha256},
        }
        return scored.model_copy(update=changes)
