"""One trial: a variant of a member, trained fold by fold and scored after each."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from ensembler.execution.executors import executor_of
from ensembler.experiments.search import Search
from ensembler.experiments.study import Trial
from ensembler.machine.execution import Execution
from ensembler.members.prices import PriceList
from ensembler.members.schedule import Schedule, trainings_of
from ensembler.predictions.records import write_record
from ensembler.predictions.trials import TrialRecord, read_trial, trial_path
from ensembler.progress import Epoch, Progress, RelayedProgress
from ensembler.recipe.members import PlannedMember
from ensembler.recipe.tune import algorithm_name
from ensembler.stop import Stop, StopReason
from ensembler.training.spec import MemberSpec
from ensembler.workspace.workspace import Workspace

QUARTERS = 4  # steps of a study in each fold
Report = Callable[
    [float, int], bool
]  # a value at a step; whether the trial should end there
# of a trial's members on some folds; NaN when there is none
Objective = Callable[[str, Sequence[str], Sequence[int]], float]
# What is known of an epoch, by the metric that it is a value of.
_OF_EPOCH: dict[str, Callable[[Epoch], float | None]] = {
    "log_loss": lambda epoch: epoch.valid_loss,
    "accuracy": lambda epoch: epoch.score,
}


@dataclass(frozen=True)
class Outcome:
    """What became of a trial. `stopped`: the job ended before it, and it is resumed later."""

    state: Literal["complete", "pruned", "failed", "stopped"]
    value: float | None = None
    reason: str | None = None


class TrialStop(Stop):
    """The stop signal of one trial, which may be pruned while the search goes on."""

    def __init__(self, outer: Stop) -> None:
        super().__init__()
        self._outer = outer
        self.is_pruned = False

    @property
    def reason(self) -> StopReason | None:
        """Why the trial should end; None while it should not."""
        return "pruned" if self.is_pruned else self._outer.reason

    @property
    def seconds_left(self) -> float | None:
        """Seconds that the search has left."""
        return self._outer.seconds_left

    @property
    def may_shorten(self) -> bool:
        """No: a trial is judged by all its epochs."""
        return False

    def request(self, reason: StopReason) -> None:
        """Ask for the end of the trial, or of the search."""
        if reason == "pruned":
            self.is_pruned = True
        else:
            self._outer.request(reason)


@dataclass
class _Watch:
    """Reports a trial's values as they come, and ends it where it is pruned."""

    report: Report
    stop: TrialStop
    reports: dict[str, float] = field(default_factory=dict)

    def value(self, value: float, step: int) -> bool:
        """A value at a step of the study; whether the trial ends there."""
        self.reports.setdefault(str(step), value)
        if self.report(self.reports[str(step)], step):
            self.stop.request("pruned")
        return self.stop.is_pruned


class _EpochWatch(RelayedProgress):
    """Shows what happens, and reports the value at the end of each quarter of fold 0."""

    def __init__(self, progress: Progress, watch: _Watch, objective: str) -> None:
        super().__init__(progress)
        self._watch, self._of_epoch = watch, _OF_EPOCH[objective]
        self._quarter = 0

    def epoch(self, epoch: Epoch) -> None:
        """Show it, and report its value."""
        super().epoch(epoch)
        quarter = QUARTERS * epoch.epoch // epoch.epochs
        value = self._of_epoch(epoch)
        is_new = self._quarter < quarter < QUARTERS
        if epoch.fold or value is None or not math.isfinite(value) or not is_new:
            return
        self._quarter = quarter
        self._watch.value(value, quarter)


@dataclass(frozen=True)
class TrialTrainer:
    """Trains and scores trials of a search in this process."""

    search: Search
    workspace: Workspace
    execution: Execution
    stop: Stop
    objective: Objective

    def run(self, trial: Trial, report: Report) -> Outcome:
        """Train and score a trial; whatever of it is finished is not done again."""
        began = time.monotonic()
        record = self._begin(trial)
        stop = TrialStop(self.stop)
        watch = _Watch(report, stop, dict(record.reports))
        try:
            outcome = self._run(trial, watch)
        except BaseException:
            self._keep(record, began, watch, {})
            raise
        ended = {}
        if outcome.state != "stopped":
            ended = {
                "state": outcome.state,
                "value": outcome.value,
                "reason": outcome.reason,
            }
        self._keep(record, began, watch, ended)
        if outcome.state in ("pruned", "failed"):
            self._forget_state(trial)
        return outcome

    def _begin(self, trial: Trial) -> TrialRecord:
        """The trial's record, written before anything of it is trained."""
        assert trial.member is not None
        path = trial_path(self.workspace.store, trial.member)
        if path.is_file():
            return read_trial(path)
        record = TrialRecord(
            study=self.search.study_name,
            number=trial.number,
            judged_by=self.search.judged_by,
            member=trial.member,
            params=dict(trial.params),
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        write_record(path, record)
        return record

    def _keep(
        self, record: TrialRecord, began: float, watch: _Watch, ended: dict[str, Any]
    ) -> None:
        seconds = record.seconds + time.monotonic() - began
        told = {"seconds": seconds, "reports": watch.reports, **ended}
        path = trial_path(self.workspace.store, record.member)
        write_record(path, record.model_copy(update=told))

    def _run(self, trial: Trial, watch: _Watch) -> Outcome:
        assert trial.member is not None
        workspace = self._workspace_of(trial, watch)
        members = main_members(workspace.members)
        value = None
        for fold in range(self.search.tune.folds):
            prices = PriceList.of(workspace, self.execution)
            schedule = Schedule(
                workspace, executor_of(self.execution), prices, stop=watch.stop
            )
            trained = schedule.train(workspace.members, [fold])
            if trained.failures:
                return Outcome("failed", reason=trained.failures[0].message)
            if watch.stop.is_pruned:
                at = f"epoch of fold {fold}"
                return Outcome("pruned", _last(watch.reports), f"pruned at an {at}")
            if trained.stopped is not None:
                return Outcome("stopped")
            value = self.objective(trial.member, members, range(fold + 1))
            if not math.isfinite(value):
                metric = self.search.tune.objective
                return Outcome("failed", reason=f"{metric} is {value} on fold {fold}")
            is_last = fold + 1 == self.search.tune.folds
            if watch.value(value, QUARTERS * (fold + 1)) and not is_last:
                return Outcome("pruned", value, f"pruned after fold {fold}")
        return Outcome("complete", value)

    def _workspace_of(self, trial: Trial, watch: _Watch) -> Workspace:
        assert trial.member is not None
        tune = self.search.tune
        is_watched = algorithm_name(tune.pruner) != "none" and tune.objective in _OF_EPOCH
        recipe = self.search.recipe_of({trial.member: trial.params}, is_watched=is_watched)
        progress = self.workspace.progress
        if is_watched and _is_one_training(recipe.spec.members[trial.member]):
            progress = _EpochWatch(progress, watch, tune.objective)
        return replace(self.workspace, recipe=recipe, progress=progress)

    def _forget_state(self, trial: Trial) -> None:
        """Remove what only a fold in training needs."""
        assert trial.member is not None
        recipe = self.search.recipe_of({trial.member: trial.params})
        workspace = replace(self.workspace, recipe=recipe)
        for training in trainings_of(workspace, workspace.members):
            for fold in range(self.search.tune.folds):
                training.forget(fold)
            training.remove_empty_folders()


def main_members(members: Sequence[PlannedMember]) -> list[str]:
    """The members that stand for a trial together: not those that its training makes beside."""
    return [
        member.name
        for member in members
        if not member.parts
        and not (isinstance(member.spec, MemberSpec) and member.variant in member.spec.also)
    ]


def _is_one_training(spec: object) -> bool:
    return isinstance(spec, MemberSpec) and spec.seeds == 1


def _last(reports: dict[str, float]) -> float:
    return reports[max(reports, key=int)]
