"""`ens plan`: what `ens run` will do, in which order, how long it takes, and what fits."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from ensembler.data.size import shown
from ensembler.deadline import Deadline
from ensembler.machine.execution import DEFAULT_EXECUTION, Execution
from ensembler.members.depth import Candidate, choose_depth, target_epochs
from ensembler.members.order import in_order, priority_of, rank
from ensembler.members.plan import MemberPlan
from ensembler.members.prices import (
    PriceList,
    Seconds,
    Workload,
    workload_of,
)
from ensembler.members.refit import is_refit_there
from ensembler.members.schedule import trainings_of
from ensembler.members.short_folds import least_seconds, one_epoch, tasks_of_submission
from ensembler.members.timed_batches import time_batches
from ensembler.members.training import Training
from ensembler.pipeline.check import check_recipe
from ensembler.predictions.finished_folds import fold_path
from ensembler.predictions.store import cache_folder
from ensembler.progress import QUIET, FoldTask, Progress
from ensembler.recipe.auto_epochs import nearest_epochs, with_epochs
from ensembler.recipe.load import Recipe
from ensembler.recipe.members import refit_name
from ensembler.recipe.own_code import introduce_code_of
from ensembler.training.spec import WITHOUT_EPOCHS, MemberSpec
from ensembler.workspace.epochs import kept_epochs
from ensembler.workspace.preview import preview_workspace
from ensembler.workspace.workspace import Workspace

Kind = Literal["decode", "fold", "predict", "refit", "blend"]
# Timing batches takes at most so many seconds, and at most this share of the time there is.
MOST_TIMING = 10.0
TIMING_SHARE = 0.05
_MOST_DOUBT = 1.3  # times what epochs are expected to take
_DECODED = 8  # images that are decoded to know how long all of them take


@dataclass(frozen=True)
class Step:
    """One step of a plan: what it costs, whether it is planned, and why it is or is not.

    `entry` is the key of its member in the recipe.
    """

    kind: Kind
    seconds: Seconds
    planned: bool = True
    reason: str = ""
    member: str | None = None
    fold: int | None = None
    epochs: int | None = None
    entry: str | None = None

    def to_json(self) -> dict[str, Any]:
        """As the object that `ens plan --json` prints."""
        return {
            "kind": self.kind,
            "member": self.member,
            "fold": self.fold,
            "epochs": self.epochs,
            "seconds": self.seconds.expected,
            "low": self.seconds.low,
            "high": self.seconds.high,
            "planned": self.planned,
            "reason": self.reason,
        }


@dataclass(frozen=True)
class Plan:
    """What `ens run` will do.

    `shortest` are the seconds that the least submission takes from now on: a fold of the smallest
    member, trained for one epoch; None when there is nothing to train. `timed` are the seconds that
    went into timing batches; `epochs` those that were chosen for members with `epochs: auto`, and
    `skipped` are such members that are not trained, for others to be trained for longer.
    """

    run: str
    deadline: Deadline | None
    steps: tuple[Step, ...]
    seconds: Seconds
    shortest: float | None
    timed: float = 0.0
    notes: tuple[str, ...] = ()
    epochs: Mapping[str, int] = field(default_factory=dict)
    skipped: tuple[str, ...] = ()

    @property
    def left_out(self) -> tuple[Step, ...]:
        """The steps for which there is no time."""
        return tuple(step for step in self.steps if not step.planned)

    @property
    def views(self) -> Seconds:
        """What predicting the views takes that complete members lack: a run does so at its end."""
        steps = (s for s in self.steps if s.kind == "predict" and s.fold is None)
        return sum((step.seconds for step in steps), Seconds())

    def to_json(self) -> dict[str, Any]:
        """As the object that `ens plan --json` prints."""
        deadline = self.deadline
        return {
            "run": self.run,
            "deadline": None if deadline is None else deadline.at.isoformat("T", "seconds"),
            "seconds": self.seconds.expected,
            "low": self.seconds.low,
            "high": self.seconds.high,
            "shortest": self.shortest,
            "seconds_timing": self.timed,
            "epochs": dict(self.epochs),
            "steps": [step.to_json() for step in self.steps],
            "notes": list(self.notes),
        }


def plan_recipe(
    recipe: Recipe,
    artifacts: Path,
    *,
    deadline: Deadline | None = None,
    execution: Execution = DEFAULT_EXECUTION,
    members: Sequence[str] | None = None,
    folds: Sequence[int] | None = None,
    began: float | None = None,
    progress: Progress = QUIET,
) -> Plan:
    """Plan what a run of the recipe would do now; nothing of the run is changed.

    Where the command `began` (on the monotonic clock) is given, the shortest deadline has room for
    as long a start.

    Trainings of which nothing like was ever trained on this machine are timed for some seconds,
    which the plan says.
    """
    introduce_code_of(recipe, progress)
    check_recipe(recipe)
    with preview_workspace(recipe, artifacts, progress) as workspace:
        planner = Planner(workspace, execution, PriceList.of(workspace, execution))
        plan = planner.plan(deadline, members=members, folds=folds)
    if began is None or plan.shortest is None:
        return plan
    start = max(0.0, time.monotonic() - began - plan.timed)
    return replace(plan, shortest=plan.shortest + start)


@dataclass
class Planner:
    """Plans the runs of a workspace by a price list; `clock` is asked how long timing takes."""

    workspace: Workspace
    execution: Execution
    prices: PriceList
    clock: Callable[[], float] = time.perf_counter
    timed: float = 0.0
    timed_names: list[str] = field(default_factory=list)
    epochs: dict[str, int] = field(default_factory=dict)
    skipped: tuple[str, ...] = ()

    def plan(
        self,
        deadline: Deadline | None,
        *,
        members: Sequence[str] | None = None,
        folds: Sequence[int] | None = None,
    ) -> Plan:
        """What is missing of `members` (default: all) and of `folds`, and what of it fits."""
        limit = None if deadline is None else deadline.seconds_left
        trainings = trainings_of(self.workspace, self.workspace.select(members))
        asked = [training for training in trainings if training.missing(folds)]
        self._time(asked, limit)
        blending = self._blending()
        steps = [*self._decoding(asked), *self._views(trainings)]
        begin = sum((step.seconds for step in steps), Seconds())
        left = None if limit is None else limit - self.timed - blending.seconds.high
        if left is not None:
            self._choose_epochs(asked, folds, left - begin.expected)
            trainings = trainings_of(self.workspace, self.workspace.select(members))
        by_name = {training.name: training for training in trainings}
        missing = list(chain.from_iterable(t.missing_tasks(folds) for t in trainings))
        tasks = in_order(missing, trainings, self.prices)
        laid = Slots(self.execution.processes, begin, left)
        for task in tasks:
            steps += self._fold(by_name[task.training], task, laid)
        if folds is None:
            lacking = [s for s in steps if not s.planned and s.entry not in self.skipped]
            steps += self._refits(trainings, laid, is_all_planned=not lacking)
        steps.append(blending)
        return Plan(
            run=self.workspace.store.name,
            deadline=deadline,
            steps=tuple(steps),
            seconds=laid.end + blending.seconds,
            shortest=self._shortest(tasks, by_name, begin, blending.seconds),
            timed=self.timed,
            notes=tuple(self._notes()),
            epochs=self.epochs,
            skipped=self.skipped,
        )

    def _choose_epochs(
        self, trainings: Sequence[Training], folds: Sequence[int] | None, seconds: float
    ) -> None:
        """Choose the epochs of members that leave them to the plan and have none yet."""
        recipe = self.workspace.recipe
        open_entries = recipe.auto_epochs - kept_epochs(recipe, self.workspace.store).keys()
        by_entry: dict[str, list[Training]] = {}
        others = 0.0
        for training in trainings:
            entry = training.all_plans[0].member.entry
            if entry in open_entries:
                by_entry.setdefault(entry, []).append(training)
            else:
                others += sum(
                    self.prices.fold(training, fold).expected
                    for fold in training.missing(folds)
                )
        asked = list(chain.from_iterable(by_entry.values()))
        ranks = {training.name: rank(training, self.prices) for training in asked}

        def place(entry: str) -> tuple[int, int]:
            first = by_entry[entry][0]
            return -priority_of(first), ranks[first.name]

        entries = sorted(by_entry, key=place)
        share = self.execution.processes * max(0.0, seconds) - others
        candidates = [self._candidate(e, by_entry[e], folds, _MOST_DOUBT) for e in entries]
        chosen = choose_depth(candidates, share, longest=seconds)
        careful = [self._candidate(e, by_entry[e], folds, math.inf) for e in entries]
        if not any(c.seconds(chosen.get(c.name, math.inf), 1) <= seconds for c in careful):
            # not one fold would surely end in time
            chosen = choose_depth(careful, share, longest=seconds)
        for entry, wanted in chosen.items():
            spec = recipe.spec.members[entry]
            assert not isinstance(spec, WITHOUT_EPOCHS)
            self.epochs[entry] = nearest_epochs(spec, wanted)
        self.skipped = tuple(entry for entry in by_entry if entry not in chosen)
        spec_with_epochs = with_epochs(recipe.spec, self.epochs)
        self.workspace = replace(
            self.workspace, recipe=replace(recipe, spec=spec_with_epochs)
        )

    def _candidate(
        self,
        entry: str,
        trainings: Sequence[Training],
        folds: Sequence[int] | None,
        most_doubt: float,
    ) -> Candidate:
        base = trainings[0].all_plans[0].member.base
        work = workload_of(trainings[0], 0)
        steps = math.ceil(work.rows / base.batch_size)
        # prices may be too low; so far that they often are is reckoned with
        doubt = min(most_doubt, self.prices.price(trainings[0]).off[1])
        ones = [one_epoch(training, 0, self.prices) for training in trainings]
        return Candidate(
            entry,
            target_epochs(steps, pretrained=base.pretrained or base.checkpoint is not None),
            doubt * sum(each for _, each in ones),
            doubt * sum(one - each for one, each in ones),
            max(len(training.missing(folds)) for training in trainings),
        )

    def _notes(self) -> list[str]:
        if not self.timed_names:
            return []
        return [
            f"timed a few batches of {', '.join(self.timed_names)} ({self.timed:.1f} s), because "
            "nothing like them was trained on this machine yet"
        ]

    def _time(self, trainings: Sequence[Training], limit: float | None) -> None:
        """Time batches of trainings without a price, the cheapest first, while there is time."""
        most = MOST_TIMING if limit is None else min(MOST_TIMING, TIMING_SHARE * limit)
        unknown = [t for t in trainings if self._is_unknown(t)]
        by_cost = sorted(unknown, key=lambda t: self.prices.fold(t, 0).expected)
        for training in by_cost:
            if self.prices.timed(training) is not None:
                continue  # of another one of the same kind
            if self.timed >= most:
                return
            began = self.clock()
            self.prices.add_timed(training, time_batches(training, self.execution))
            self.timed += self.clock() - began
            self.timed_names.append(training.name)

    def _is_unknown(self, training: Training) -> bool:
        is_trained = not isinstance(training.plans[0].member.spec, WITHOUT_EPOCHS)
        if not is_trained or self.prices.measured(training):
            return False
        return self.prices.timed(training) is None

    def _decoding(self, trainings: Sequence[Training]) -> list[Step]:
        """Decoding the images of every input that is not in the cache."""
        from ensembler.data.pixels import are_prepared, decode_first

        images, cache = (
            self.workspace.samples.images,
            cache_folder(self.workspace.artifacts),
        )
        inputs = {
            t.all_plans[0].input.model_dump_json(): t.all_plans[0].input for t in trainings
        }
        steps = []
        for seen in inputs.values():
            if are_prepared(images, seen, cache):
                continue
            n = min(_DECODED, len(images))
            began = self.clock()
            decode_first(images, seen, n)
            each = (self.clock() - began) / max(1, n)
            seconds = each * len(images)
            reason = (
                f"{len(images)} images at {shown(seen.size)} px, by {n} that were decoded"
            )
            spread = Seconds(seconds, seconds / 2, seconds * 2)
            steps.append(Step("decode", spread, reason=reason))
        return steps

    def _views(self, trainings: Sequence[Training]) -> list[Step]:
        """Predicting the views that complete members lack."""
        plans = chain.from_iterable(training.plans for training in trainings)
        return [
            step
            for plan in plans
            if plan.on_disk.is_complete and (step := self._missing_views(plan)) is not None
        ]

    def _missing_views(self, plan: MemberPlan) -> Step | None:
        there = self.workspace.store.member(plan.member.name).record.views
        lacking = [name for name in plan.view_names if name not in there]
        if not lacking:
            return None
        (training,) = trainings_of(self.workspace, [plan.member])
        n_train, n_test = (len(rows) for rows in self.workspace.image_rows)
        images = n_train + n_test * plan.rows.n_folds
        work = Workload(0, 0, images * len(lacking))
        seconds = self.prices.price(training).predicting(work)
        reason = f"views {', '.join(lacking)} are missing"
        return Step("predict", seconds, reason=reason, member=plan.member.name)

    def _fold(self, training: Training, task: FoldTask, laid: Slots) -> list[Step]:
        price, work = self.prices.price(training), workload_of(training, task.fold)
        whole = price.fold(work)
        room = laid.room
        is_skipped = training.all_plans[0].member.entry in self.skipped
        is_planned = not is_skipped and laid.add(whole)
        reason = f"by {price.source}"
        if is_skipped:
            reason = "epochs: auto gives the time to fewer members, for more epochs each"
        elif not is_planned:
            reason = (
                f"no time: it takes up to {whole.high:.0f} s ({reason}), and "
                f"{max(0.0, room or 0.0):.0f} s are left for training"
            )
        fold = Step(
            "fold",
            price.training(work),
            is_planned,
            reason,
            training.name,
            task.fold,
            work.epochs,
            training.all_plans[0].member.entry,
        )
        predict = replace(fold, kind="predict", seconds=price.predicting(work), epochs=None)
        return [fold, predict]

    def _refits(
        self, trainings: Sequence[Training], laid: Slots, *, is_all_planned: bool
    ) -> list[Step]:
        """The networks on all rows that members ask for, trained after all folds."""
        steps = []
        for training in trainings:
            for plan in training.plans:
                seconds = self._refit_seconds(training, plan)
                if plan.member.entry in self.skipped or seconds is None:
                    continue
                is_planned = is_all_planned and laid.add_last(seconds)
                reason = "on all rows, after the folds"
                if not is_all_planned:
                    reason = "refits are made once all folds are there; some are left out"
                elif not is_planned:
                    reason = f"no time: it takes up to {seconds.high:.0f} s after all folds"
                name, entry = refit_name(plan.member.name), plan.member.entry
                steps.append(Step("refit", seconds, is_planned, reason, name, entry=entry))
        return steps

    def _refit_seconds(self, training: Training, plan: MemberPlan) -> Seconds | None:
        """What the refit of a member takes; None where none is asked for, or it is there."""
        spec = plan.member.spec
        asked = spec.refit if isinstance(spec, MemberSpec) else None
        if asked is None or is_refit_there(self.workspace, plan.member, self.execution):
            return None
        n_train, n_test = (len(rows) for rows in self.workspace.image_rows)
        work = Workload(plan.member.base.epochs, n_train, n_test * len(plan.views))
        each = self.prices.price(training).fold(work)
        folder = self.workspace.store.member_folder(refit_name(plan.member.name))
        numbers = [plan.rows.n_folds + seed for seed in range(asked.seeds)]
        missing = [n for n in numbers if not fold_path(folder, n).is_file()]
        return sum((each for _ in missing), Seconds())

    def _blending(self) -> Step:
        members = len(self.workspace.pool)
        seconds = self.prices.blending(self.workspace)
        return Step(
            "blend", seconds, reason=f"{members} members, and writing the submission"
        )

    def _shortest(
        self,
        tasks: Sequence[FoldTask],
        by_name: dict[str, Training],
        begin: Seconds,
        blending: Seconds,
    ) -> float | None:
        """Seconds that a fold of the smallest member takes with one epoch, and a submission."""
        submitted = tasks_of_submission(tasks, by_name)
        if not submitted:
            return None
        least = min(
            least_seconds(by_name[task.training], task.fold, self.prices)
            for task in submitted
        )
        return begin.expected + least + blending.expected


class Slots:
    """Folds laid out in time over `n` processes; `left` are the seconds for them (None: any)."""

    def __init__(self, n: int, begin: Seconds, left: float | None) -> None:
        self._ends = [begin] * n
        self._left = left

    @property
    def end(self) -> Seconds:
        """When all are done."""
        return max(self._ends, key=lambda end: end.expected)

    @property
    def room(self) -> float | None:
        """Seconds that the next fold may take."""
        first = min(self._ends, key=lambda end: end.expected)
        return None if self._left is None else self._left - first.expected

    def add_last(self, seconds: Seconds) -> bool:
        """Lay out a step after all others, for one process; False when there is no time for it."""
        end = self.end + seconds
        if self._left is not None and end.high > self._left:
            return False
        self._ends = [end] * len(self._ends)
        return True

    def add(self, seconds: Seconds) -> bool:
        """Lay out a fold where it can begin first; False when there is no time for it."""
        room = self.room
        if room is not None and seconds.high > room:
            return False
        place = min(range(len(self._ends)), key=lambda i: self._ends[i].expected)
        self._ends[place] += seconds
        return True
