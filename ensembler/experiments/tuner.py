"""A search in one process: trials asked for, trained and told, the most useful completed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from ensembler.errors import RequestError, TrainingError
from ensembler.execution.executors import executor_of
from ensembler.experiments.search import Search
from ensembler.experiments.study import Study, Trial
from ensembler.experiments.trial import Outcome, TrialStop, TrialTrainer, main_members
from ensembler.experiments.usefulness import Judge, gains_of, most_useful
from ensembler.files import claim, write_bytes
from ensembler.machine.execution import Execution
from ensembler.members.executor import Failure
from ensembler.members.option_claims import check_nobody_trains_otherwise
from ensembler.members.prices import PriceList
from ensembler.members.schedule import Schedule
from ensembler.predictions.finished_folds import finished_folds, fold_path, weights_path
from ensembler.predictions.records import write_record
from ensembler.predictions.store import RunStore
from ensembler.predictions.trials import TrialRecord, read_trial, trial_path, trial_records
from ensembler.progress import Progress
from ensembler.recipe.load import Recipe
from ensembler.recipe.own_code import introduce_code_of
from ensembler.recipe.tune import BLEND_OBJECTIVE
from ensembler.stop import Stop, StopReason
from ensembler.workspace.lock import yaml_of
from ensembler.workspace.workspace import Workspace, open_workspace

BEST_RECIPE = "recipe.best.yaml"
_LOOK_EVERY = 0.5  # seconds between two looks at what other processes do
_MOST_REPEATS = 25  # draws in a row that were tried before, until the search ends
_MOST_FAILURES = 5  # trials in a row that failed, until the search ends
_DOUBT = 1.15  # by how much completing members may take longer than is expected


@dataclass(frozen=True)
class TrialResult:
    """A trial and how many of its folds are finished."""

    trial: Trial
    folds_done: int

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        trial = self.trial
        return {
            "number": trial.number,
            "state": trial.state,
            "value": trial.value,
            "params": dict(trial.params),
            "member": trial.member if self.folds_done else None,
            "folds_done": self.folds_done,
            "seconds": trial.seconds,
            "reason": trial.reason,
        }


@dataclass(frozen=True)
class TuneResult:
    """What `ens tune` found: every trial, the best, and the members that were completed.

    `importances` say by evaluator how much each key of the space matters; `recipe` is the file that
    trains the completed members again. `stopped` says why it ended early, `ended` why the search
    did, where that is not the number of trials.
    """

    run: str
    folder: Path
    study: str
    objective: str
    direction: Literal["minimize", "maximize"]
    trials: tuple[TrialResult, ...]
    best: int | None
    completed: tuple[str, ...]
    recipe: Path | None
    importances: dict[str, dict[str, float]]
    stopped: StopReason | None = None
    ended: str | None = None
    failures: tuple[Failure, ...] = ()
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """As the object that `ens tune --json` prints."""
        return {
            "run": self.run,
            "folder": str(self.folder),
            "study": self.study,
            "objective": self.objective,
            "direction": self.direction,
            "trials": [trial.to_json() for trial in self.trials],
            "best": self.best,
            "completed": list(self.completed),
            "recipe": None if self.recipe is None else str(self.recipe),
            "importances": self.importances,
            "stopped": self.stopped,
            "ended": self.ended,
            "failures": [failure.__dict__ for failure in self.failures],
            "seconds": self.seconds,
        }


@dataclass(frozen=True)
class TrialBegan:
    """A worker has begun to train a trial."""

    number: int


@dataclass(frozen=True)
class TrialEnded:
    """A worker has told what became of a trial."""

    number: int


Tell = Callable[[TrialBegan | TrialEnded], None]


def open_search(
    recipe: Recipe, artifacts: Path, progress: Progress
) -> tuple[Search, Workspace]:
    """A recipe's search and the workspace of its run, for one of several processes."""
    introduced(recipe, progress)
    return open_introduced(recipe, artifacts, progress)


def introduced(recipe: Recipe, progress: Progress) -> Recipe:
    """The recipe of what trials are like, whose code of the user's own is known from now on."""
    search = Search.of(recipe)
    check = search.check()
    introduce_code_of(check, progress, [search.tune.objective])
    return check


def open_introduced(
    recipe: Recipe, artifacts: Path, progress: Progress
) -> tuple[Search, Workspace]:
    """The same of a recipe whose own code is known."""
    workspace = open_workspace(
        recipe, artifacts, progress, check=check_nobody_trains_otherwise
    )
    return Search.of(workspace.recipe), workspace


@dataclass
class Tuner:
    """Searches in one process; several share a study."""

    search: Search
    workspace: Workspace
    execution: Execution
    stop: Stop
    wanted: int
    tell: Tell = lambda _: None
    failures: list[Failure] = field(default_factory=list)
    ended: str | None = None

    def __post_init__(self) -> None:
        tune = self.search.tune
        seed = self.workspace.spec.seed if tune.seed is None else tune.seed
        self.study = Study(self.folder, self.search.study_name, self.search.space, seed)

    @property
    def store(self) -> RunStore:
        """The run as it is now."""
        return RunStore(self.workspace.store.folder)

    @property
    def folder(self) -> Path:
        """Where the study and its tables lie."""
        return self.workspace.store.folder / "tune"

    @property
    def judge(self) -> Judge:
        """What scores trials."""
        return Judge(self.store, self.search.target)

    @contextmanager
    def _claimed(self) -> Iterator[None]:
        """A block in which no other process changes the study."""
        with claim(self.folder / ".study.lock", wait=True):
            yield

    def check_folds(self) -> None:
        """Raise RequestError for more folds to judge by than the run has."""
        n_folds = int(self.workspace.store.samples.folds().max()) + 1
        if self.search.tune.folds > n_folds:
            raise RequestError(
                f"tune.folds {self.search.tune.folds} should be at most the run's folds, {n_folds}"
            )

    def open_study(self, *, rebuild: bool) -> None:
        """Make the study where it is not there, with what earlier trials are worth to it.

        Trials that were judged alike and that this space could have drawn are its first ones.
        """
        self.study.check()
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._claimed():
            if rebuild:
                self._move_aside()
            self.study.check_file()
            if self.study.is_there:
                return
            self.study.make()
            fitting = self._fitting()
            for record in fitting:
                self.study.add(record)
        finished = [record for record in fitting if record.state in ("complete", "pruned")]
        if finished:
            self.workspace.progress.note(
                f"study {self.study.name} begins with {len(finished)} trials of this run that were "
                "judged alike"
            )
        for key in self.search.space.never_drawn:
            self.workspace.progress.note(
                f"tune.space.{key} is never tried: its when is never met"
            )

    def _fitting(self) -> list[TrialRecord]:
        ours, space = self.search.judged_by, self.search.space
        records = [
            record
            for record in trial_records(self.store)
            if record.judged_by == ours and space.holds(record.params)
        ]
        return sorted(records, key=lambda record: (record.number, record.member))

    def _move_aside(self) -> None:
        path = self.study.path
        if not path.is_file():
            return
        n = 1
        while (aside := path.with_name(f"{path.stem}.broken-{n}{path.suffix}")).exists():
            n += 1
        path.rename(aside)
        journal = path.with_name(f"{path.name}-journal")
        journal.unlink(missing_ok=True)
        self.workspace.progress.note(f"{path.name} was moved to {aside.name}")

    def search_on(self) -> None:
        """Try until enough trials are finished, or there is no time or room for another."""
        trainer = TrialTrainer(
            self.search, self.workspace, self.execution, self.stop, self._objective
        )
        failed_in_a_row = 0
        while not self.stop:
            with ExitStack() as held:
                trial = self._take(held)
                if trial is None:
                    return
                self.tell(TrialBegan(trial.number))
                outcome = self._try(trainer, trial)
                self._finish(trial, outcome)
                self.tell(TrialEnded(trial.number))
            if outcome.state == "stopped":
                return
            failed_in_a_row = failed_in_a_row + 1 if outcome.state == "failed" else 0
            if failed_in_a_row == _MOST_FAILURES:
                self.ended = (
                    f"{failed_in_a_row} trials failed one after another: {outcome.reason}"
                )
                return

    def give_up(self, number: int, seconds: float) -> None:
        """A trial took too long, and its process was ended: it has failed."""
        reason = f"it took more than {self.search.tune.timeout}, which is tune.timeout"
        with self._claimed():
            trial = self.study.trials()[number]
            self.study.finish(number, "failed", None, seconds, reason)
        if trial.member is None:
            return
        path = trial_path(self.store, trial.member)
        if path.is_file():
            told = {"state": "failed", "seconds": seconds, "reason": reason}
            write_record(path, read_trial(path).model_copy(update=told))
        self.workspace.progress.warn(f"trial {number} failed: {reason}")

    def _try(self, trainer: TrialTrainer, trial: Trial) -> Outcome:
        try:
            return trainer.run(trial, self._reporter(trial.number))
        except KeyboardInterrupt:
            with self._claimed():
                self.study.release(trial.number)
            raise

    def _reporter(self, number: int) -> Any:
        def report(value: float, step: int) -> bool:
            with self._claimed():
                return self.study.report(number, value, step)

        return report

    def _take(self, held: ExitStack) -> Trial | None:
        """The next trial for this process, claimed until `held` ends; None when there is none."""
        while not self.stop:
            with self._claimed():
                trials = self.study.trials()
                n_finished = sum(trial.is_finished for trial in trials)
                if n_finished >= self.wanted:
                    return None
                resumed, n_alive = self._take_up(trials, held)
                if resumed is not None:
                    return resumed
                if self._no_room() or self._no_time():
                    return None
                if n_finished + n_alive < self.wanted:
                    return self._ask(held)
            time.sleep(_LOOK_EVERY)
        return None

    def _take_up(
        self, trials: Sequence[Trial], held: ExitStack
    ) -> tuple[Trial | None, int]:
        """A trial whose process has ended, and how many others are at work on theirs."""
        n_alive = 0
        for trial in trials:
            if trial.state != "running":
                continue
            if not self._claim(trial.number, held):
                n_alive += 1
                continue
            if self.study.has_died_too_often(trial.number):
                reason = "its process was ended three times"
                self.study.finish(trial.number, "failed", None, trial.seconds, reason)
                continue
            return self.study.resume(trial.number, self._names_taken()), n_alive
        return None, n_alive

    def _claim(self, number: int, held: ExitStack) -> bool:
        return held.enter_context(claim(self.folder / f".trial-{number}.lock"))

    def _ask(self, held: ExitStack) -> Trial | None:
        """A trial of values that were not tried before; None where there are none left."""
        for _ in range(_MOST_REPEATS):
            trial = self.study.ask(self._names_taken())
            earlier = self.study.repeats(trial)
            if earlier is None:
                self._claim(trial.number, held)
                return trial
            reason = f"the values of trial {earlier.number}"
            self.study.finish(trial.number, "repeated", None, 0.0, reason)
            if self._is_exhausted():
                self.ended = "every combination of the space was tried"
                return None
        self.ended = f"{_MOST_REPEATS} draws in a row were of values tried before"
        return None

    def _is_exhausted(self) -> bool:
        count = self.search.space.count
        if math.isinf(count):
            return False
        tried = [
            t.params for t in self.study.trials() if t.state not in ("repeated", "waiting")
        ]
        different = {repr(sorted(params.items())) for params in tried}
        return len(different) >= count

    def _names_taken(self) -> list[str]:
        store = self.store
        there = [
            *store.complete_members,
            *store.begun_members,
            *self.workspace.spec.members,
        ]
        known = [trial.member for trial in self.study.trials() if trial.member is not None]
        return [*there, *known]

    def _no_room(self) -> bool:
        """Whether the trials take as much of the disk as they may."""
        limit = self.search.tune.disk_bytes
        if limit is None:
            return False
        folders = {trial.member for trial in self.study.trials() if trial.member}
        used = sum(_bytes_in(self.store.member_folder(name)) for name in sorted(folders))
        if used < limit:
            return False
        self.ended = (
            f"the trials take {used / 1e6:,.0f} MB of the disk, and tune.disk allows "
            f"{limit / 1e6:,.0f} MB"
        )
        return True

    def _no_time(self) -> bool:
        """Whether another trial would take the time that completing the useful ones needs."""
        left = self.stop.seconds_left
        trials = [trial for trial in self.study.trials() if trial.is_finished]
        if left is None or not trials:
            return False
        each = max(trial.seconds for trial in trials[-5:])
        if left >= _DOUBT * each + self._seconds_to_complete(each):
            return False
        self.ended = "no time was left for another trial"
        return True

    def _seconds_to_complete(self, seconds_of_trial: float) -> float:
        """Seconds that completing the most useful trials takes, as trials took."""
        n_folds = int(self.workspace.store.samples.folds().max()) + 1
        tune = self.search.tune
        finished = sum(trial.is_finished for trial in self.study.trials())
        n_kept = min(tune.keep, finished + 1)
        per_fold = seconds_of_trial / tune.folds
        return _DOUBT * n_kept * (n_folds - tune.folds) * per_fold

    def _finish(self, trial: Trial, outcome: Outcome) -> None:
        if outcome.state == "stopped":
            with self._claimed():
                self.study.release(trial.number)
            return
        seconds = 0.0
        for record in trial_records(self.store):
            if record.member == trial.member:
                seconds = record.seconds
        with self._claimed():
            self.study.finish(
                trial.number, outcome.state, outcome.value, seconds, outcome.reason
            )
            self._drop_weights()
        if outcome.state == "failed":
            assert trial.member is not None
            self.failures.append(Failure(trial.member, 0, outcome.reason or "it failed"))
        self._say(trial, outcome)

    def _say(self, trial: Trial, outcome: Outcome) -> None:
        value = (
            ""
            if outcome.value is None
            else f" {self.search.tune.objective} {outcome.value:.4f}"
        )
        params = ", ".join(
            f"{setting.option} {setting.text}"
            for setting in self.search.space.settings(trial.params)
        )
        why = (
            ""
            if outcome.reason is None or outcome.state == "failed"
            else f" ({outcome.reason})"
        )
        self.workspace.progress.note(
            f"trial {trial.number} {outcome.state}{why}:{value} with {params}"
        )

    def _objective(
        self, member: str, members: Sequence[str], folds: Sequence[int]
    ) -> float:
        """The value of a trial by the members that stand for it."""
        if self.search.tune.objective != BLEND_OBJECTIVE:
            return self.judge.value(members, self.search.tune.objective, folds)
        own = self.judge.value(members, self.workspace.spec.blend.metric, folds)
        if not math.isfinite(own):
            return own
        pool = self.judge.pool({**self._pool(), member: members})
        assert pool is not None
        return gains_of(pool, self.workspace.spec.blend, [member])[member]

    def _pool(self) -> dict[str, list[str]]:
        """What a trial is blended with: the run's complete members, and the finished trials."""
        done = {trial.member: None for trial in self.study.trials() if trial.is_finished}
        trials = {name: self._members_of(name) for name in done if name is not None}
        store, target = self.store, self.search.target
        complete = {
            name: [name]
            for name in store.pool_members
            if target in store.member(name).targets and not _is_of_trials(name, trials)
        }
        return {**complete, **trials}

    def _members_of(self, member: str) -> list[str]:
        """The members that stand for a trial."""
        trial = next(t for t in self.study.trials() if t.member == member)
        return main_members(self._workspace_of([trial]).members)

    def _workspace_of(self, trials: Sequence[Trial]) -> Workspace:
        """The workspace whose members are these trials."""
        named = {trial.member: trial.params for trial in trials if trial.member is not None}
        return replace(self.workspace, recipe=self.search.recipe_of(named))

    def _useful(self, count: int) -> list[Trial]:
        """The trials that add most to a blend on fold 0, the best of them first."""
        trials = {t.member: t for t in self.study.trials() if t.is_finished and t.member}
        pool = self.judge.pool({name: self._members_of(name) for name in trials})
        if pool is None:
            return []
        names = most_useful(pool, self.workspace.spec.blend.metric, count)
        return [trials[name] for name in names]

    def _drop_weights(self) -> None:
        """Remove the weights of all but the most useful trials; their logits stay."""
        with_weights = [
            trial
            for trial in self.study.trials()
            if trial.is_finished and trial.member and self._weights_of(trial)
        ]
        most = self.search.tune.weights
        if len(with_weights) <= most:
            return
        kept = {trial.number for trial in self._useful(most)}
        for trial in with_weights:
            if trial.number not in kept:
                for path in self._weights_of(trial):
                    path.unlink(missing_ok=True)

    def _weights_of(self, trial: Trial) -> list[Path]:
        """The weights of a trial's members that have not all their folds."""
        store, complete = self.store, self.store.complete_members
        paths = []
        for name in self._members_of(str(trial.member)):
            if name in complete:
                continue
            folder = store.member_folder(name)
            folds = range(self.search.tune.folds)
            paths += [path for f in folds if (path := weights_path(folder, f)).is_file()]
        return paths

    def complete(self) -> None:
        """Train the remaining folds of the most useful trials; nothing where time is over."""
        if self.stop:
            return
        chosen = self._useful(self.search.tune.keep)
        if not chosen:
            return
        workspace = self._workspace_of(chosen)
        self._forget_folds_without_weights(workspace)
        schedule = Schedule(
            workspace,
            executor_of(self.execution),
            PriceList.of(workspace, self.execution),
            stop=TrialStop(self.stop),
        )
        done = schedule.train(workspace.members)
        self.failures += done.failures

    def _forget_folds_without_weights(self, workspace: Workspace) -> None:
        """Let folds be trained again whose weights were removed: a complete member has its own."""
        store = self.store
        for name in main_members(workspace.members):
            folder = store.member_folder(name)
            if name in store.complete_members:
                continue
            for fold in finished_folds(folder, self.search.tune.folds):
                if not weights_path(folder, fold).is_file():
                    fold_path(folder, fold).unlink()

    def result(self, seconds: float) -> TuneResult:
        """What there is now, written into the run as tables, figures and a recipe."""
        if self.search.tune.objective == BLEND_OBJECTIVE:
            self._revalue()
        store, trials = self.store, self.study.trials()
        best = self._best(trials)
        if best is None and self.failures:
            raise TrainingError(f"no trial was finished: {self.failures[-1].message}")
        completed = (
            [
                trial.member
                for trial in self._useful(len(trials))
                if trial.member in store.complete_members
            ]
            if best is not None
            else []
        )
        names = [name for name in completed if name is not None]
        recipe = self._write_recipe(trials, names, best)
        return TuneResult(
            run=store.name,
            folder=store.folder,
            study=self.study.name,
            objective=self.search.tune.objective,
            direction=self.study.direction,
            trials=tuple(TrialResult(t, self._folds_done(t)) for t in trials),
            best=None if best is None else best.number,
            completed=tuple(names),
            recipe=recipe,
            importances=self.study.importances(),
            stopped=self.stop.reason,
            ended=self.ended,
            failures=tuple(self.failures),
            seconds=seconds,
        )

    def _best(self, trials: Sequence[Trial]) -> Trial | None:
        done = [
            trial
            for trial in trials
            if trial.state == "complete" and trial.value is not None
        ]
        sign = 1.0 if self.study.direction == "minimize" else -1.0
        return min(done, key=lambda t: (sign * (t.value or 0.0), t.number), default=None)

    def _revalue(self) -> None:
        """Compute what each finished trial adds to the blend of all, now that all are there."""
        members = self._pool()
        pool = self.judge.pool(members)
        finished = [t for t in self.study.trials() if t.state == "complete" and t.member]
        if pool is None or len(finished) < 2:
            return
        names = [str(t.member) for t in finished if t.member in pool.names]
        gains = gains_of(pool, self.workspace.spec.blend, names)
        values = {t.number: gains[t.member] for t in finished if t.member in gains}
        with self._claimed():
            self.study.revalue(values)

    def _folds_done(self, trial: Trial) -> int:
        """How many folds the members of a trial have, all of them."""
        if trial.member is None or trial.state in ("repeated", "waiting"):
            return 0
        store = self.store
        n_folds = int(store.samples.folds().max()) + 1
        counts = []
        for name in self._members_of(trial.member):
            if name in store.complete_members:
                counts.append(n_folds)
            else:
                counts.append(len(finished_folds(store.member_folder(name), n_folds)))
        return min(counts, default=0)

    def _write_recipe(
        self, trials: Sequence[Trial], completed: Sequence[str], best: Trial | None
    ) -> Path | None:
        """The recipe of the completed members, or of the best trial where none is."""
        if best is None:
            return None
        by_name = {trial.member: trial for trial in trials}
        names = list(completed) or [str(best.member)]
        content = self.search.best_recipe({name: by_name[name].params for name in names})
        path = self.store.folder / BEST_RECIPE
        text = yaml_of(content)
        if not path.is_file() or path.read_bytes() != text:
            write_bytes(path, text)
        Recipe.load(path)
        return path


def _is_of_trials(name: str, trials: dict[str, list[str]]) -> bool:
    return name in trials or any(name in members for members in trials.values())


def _bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
