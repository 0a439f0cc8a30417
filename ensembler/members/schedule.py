"""Training the members of a recipe: every fold that is missing, wherever folds are trained.

Several processes share the folds of a run by claiming them one at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import chain

from ensembler.members.averages import assemble_members
from ensembler.members.complete import complete_member, drop_stale
from ensembler.members.executor import Executor, Failure, FinishedTask, FoldResult, LeftOut
from ensembler.members.fold import concerns_all, failure_of, record_failure
from ensembler.members.option_claims import claim_options
from ensembler.members.order import in_order
from ensembler.members.plan import MemberPlan
from ensembler.members.prices import PriceList
from ensembler.members.short_folds import has_finished_folds, is_short, shortest_fold
from ensembler.members.short_training import advice_on_augmentation
from ensembler.members.training import Training, group_trainings
from ensembler.predictions.finished_folds import read_finished_fold
from ensembler.progress import FoldTask
from ensembler.recipe.members import PlannedMember
from ensembler.stop import Stop, StopReason
from ensembler.training.spec import FittedSpec
from ensembler.workspace.workspace import Workspace

_NO_TIME = "no time was left"


@dataclass(frozen=True)
class KFoldResult:
    """What `ens kfold` did: the members now complete, the folds it trained, the failures.

    `stopped` says why it ended before everything was done, `left_out` which folds there was no time
    for; those in `shortened` are there with fewer epochs than the recipe says.
    """

    run: str
    complete: tuple[str, ...]
    incomplete: tuple[str, ...]
    trained: tuple[FoldTask, ...]
    failures: tuple[Failure, ...] = ()
    stopped: StopReason | None = None
    left_out: tuple[LeftOut, ...] = ()
    shortened: tuple[FoldTask, ...] = ()

    def with_later(self, later: KFoldResult) -> KFoldResult:
        """What was done here, and after it."""
        return KFoldResult(
            run=self.run,
            complete=(*self.complete, *later.complete),
            incomplete=(*self.incomplete, *later.incomplete),
            trained=(*self.trained, *later.trained),
            failures=(*self.failures, *later.failures),
            stopped=later.stopped,
            left_out=(*self.left_out, *later.left_out),
            shortened=(*self.shortened, *later.shortened),
        )


@dataclass(frozen=True)
class Schedule:
    """Trains what is missing of a workspace's members by an `executor`.

    `prices` say which folds come first; `after_fold` is called after each finished fold, for
    instance to renew the submission.
    """

    workspace: Workspace
    executor: Executor
    prices: PriceList | None = None
    after_fold: Callable[[], None] | None = None
    stop: Stop = field(default_factory=Stop)

    def train(
        self, selected: Sequence[PlannedMember], folds: Sequence[int] | None = None
    ) -> KFoldResult:
        """Train the missing folds of `selected` (only `folds` when given).

        Members that have all their folds are completed.
        """
        if any(planned.sees_images for planned in selected):
            self.executor.check()
        trainings = trainings_of(self.workspace, selected)
        for plan in _plans(trainings):
            plan.rows.check_folds(folds)
            plan.check_classes()
        with claim_options(trainings):
            done = self._train_claimed(trainings, folds)
            done.failures += self._complete(trainings)
        for training in trainings:
            training.remove_empty_folders()
        assemble_members(self.workspace, selected)
        complete = set(self.workspace.store.complete_members)
        names = [planned.name for planned in selected]
        return KFoldResult(
            run=self.workspace.store.name,
            complete=tuple(n for n in names if n in complete),
            incomplete=tuple(n for n in names if n not in complete),
            trained=tuple(done.trained),
            failures=tuple(dict.fromkeys(done.failures)),
            stopped=(self.stop.reason or "deadline") if done.is_partial else None,
            left_out=tuple(done.left_out.values()),
            shortened=tuple(done.shortened),
        )

    def _train_claimed(
        self, trainings: Sequence[Training], folds: Sequence[int] | None
    ) -> _Done:
        for plan in _plans(trainings):
            drop_stale(plan)
        tasks = list(chain.from_iterable(t.missing_tasks(folds) for t in trainings))
        if self.prices is not None:
            tasks = in_order(tasks, trainings, self.prices)
        self.workspace.progress.plan(tasks, self.executor.at_once)
        advice = advice_on_augmentation([t.plans[0] for t in trainings if t.missing(folds)])
        if advice is not None:
            self.workspace.progress.note(advice)
        done = _Done()
        short = self._shortened(trainings, tasks)
        if short is not None:
            self._run([short[0]], [short[1]], done)
        self._run(trainings, tasks, done)
        if self.stop or done.is_partial:
            self._note_missing(trainings, folds, done)
        return done

    def _note_missing(
        self, trainings: Sequence[Training], folds: Sequence[int] | None, done: _Done
    ) -> None:
        """Note the folds that are missing although nothing failed: there was no time for them.

        What another process finished after all was not left out.
        """
        missing: dict[FoldTask, LeftOut] = {}
        for training in trainings:
            if failure_of(training) is not None:
                continue
            for task in training.missing_tasks(folds):
                lacks = training.lacks(task.fold)
                reason = f"it needs {lacks}, which is not all there" if lacks else _NO_TIME
                missing[task] = done.left_out.get(task) or LeftOut(task, reason)
        done.left_out = missing

    def _run(
        self, trainings: Sequence[Training], tasks: Sequence[FoldTask], done: _Done
    ) -> None:
        running = self.executor.run(self.workspace, trainings, tasks, self.stop)
        with closing(running) as results:
            for result in results:
                done.add(result)
                if isinstance(result, FinishedTask) and self.after_fold is not None:
                    self.after_fold()

    def _shortened(
        self, trainings: Sequence[Training], tasks: Sequence[FoldTask]
    ) -> tuple[Training, FoldTask] | None:
        """A fold with fewer epochs, where nothing is finished and no fold ends in time."""
        left = self.stop.seconds_left
        if left is None or self.prices is None or not self.stop.may_shorten:
            return None
        if has_finished_folds(self.workspace.store):
            return None
        found = shortest_fold(trainings, tasks, self.prices, left)
        if found is None:
            return None
        training, task = found
        self.workspace.progress.note(
            f"no fold of any member ends in time: {task.training} fold {task.fold} is trained for "
            f"{task.cost.epochs} epochs; without a deadline the same command trains all"
        )
        return training, task

    def _complete(self, trainings: Sequence[Training]) -> list[Failure]:
        """Complete the members whose folds are all there; what failed meanwhile."""
        failures = []
        for training in trainings:
            for plan in training.plans:
                failure = (
                    None
                    if plan.on_disk.is_complete
                    else _complete_unless_failed(training, plan)
                )
                if failure is not None:
                    failures.append(failure)
            training.tidy()
        return failures


@dataclass
class _Done:
    """What became of the folds of a schedule."""

    trained: list[FoldTask] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    shortened: list[FoldTask] = field(default_factory=list)
    left_out: dict[FoldTask, LeftOut] = field(default_factory=dict)

    @property
    def is_partial(self) -> bool:
        """Whether something was left out or cut short for want of time."""
        return bool(self.left_out or self.shortened)

    def add(self, result: FoldResult) -> None:
        """One more result; what was done after all was not left out."""
        match result:
            case Failure():
                self.failures.append(result)
            case LeftOut():
                self.left_out.setdefault(result.task, result)
            case FinishedTask():
                self.left_out.pop(result.task, None)
                if result.is_short or is_short(result.task.training):
                    self.shortened.append(result.task)
                elif result.was_trained:
                    self.trained.append(result.task)


def trainings_of(workspace: Workspace, selected: Sequence[PlannedMember]) -> list[Training]:
    """The trainings that members come from; one that is the mean of others has none."""
    return group_trainings(
        [MemberPlan(workspace, planned) for planned in selected if not planned.parts]
    )


def _plans(trainings: Sequence[Training]) -> list[MemberPlan]:
    return list(chain.from_iterable(training.plans for training in trainings))


def _complete_unless_failed(training: Training, plan: MemberPlan) -> Failure | None:
    failure = failure_of(training)
    if failure is not None:
        return failure
    folds = range(plan.rows.n_folds)
    try:
        if all(plan.on_disk.is_finished(fold) for fold in folds):
            complete_member(
                plan, [read_finished_fold(plan.on_disk.folder, fold) for fold in folds]
            )
    except Exception as error:
        if (
            plan.on_disk.is_complete
        ):  # another process was faster, and has removed what was being read
            return None
        if concerns_all(error):
            raise
        return record_failure(training, plan.rows.n_folds - 1, error)
    return None


def is_stacked(member: PlannedMember) -> bool:
    """Whether a member is fitted on the predictions of others, which have to be complete."""
    return isinstance(member.spec, FittedSpec) and bool(member.ingredients)
