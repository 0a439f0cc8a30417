"""The study of a search: what was tried and what came of it, in one SQLite file of the run.

The one file that imports Optuna. Trials are asked for and told; who works on which of them is said
by claims of the run, so that several processes share a study and a killed one loses nothing.
"""

from __future__ import annotations

import math
import os
import sqlite3
import uuid
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ensembler.errors import EnsemblerError, MissingExtraError, RequestError, StoreError
from ensembler.experiments.space import Space, choices_of
from ensembler.files import fingerprint, sync_folder
from ensembler.metrics import check_metric
from ensembler.recipe.tune import (
    BLEND_OBJECTIVE,
    Algorithm,
    DimensionSpec,
    TuneSpec,
    algorithm_name,
    algorithm_options,
)

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

    from ensembler.predictions.trials import TrialRecord

STUDY_FILE = "study.db"
_SECONDS_TO_WAIT = 60.0  # for another process that writes into the file
_VALUES = "values"  # of trials, as they are with the pool of today
_MOST_ATTEMPTS = 3  # of a trial whose process is killed each time
_SAMPLERS = {
    "tpe": "TPESampler",
    "random": "RandomSampler",
    "qmc": "QMCSampler",
    "gp": "GPSampler",
    "cmaes": "CmaEsSampler",
    "nsgaii": "NSGAIISampler",
    "brute_force": "BruteForceSampler",
}
_SAMPLER_DEFAULTS: dict[str, dict[str, Any]] = {
    # measured best for 20 to 60 trials of mixed kinds (docs/tune.md)
    "tpe": {"multivariate": True, "group": True},
    "qmc": {"scramble": True, "warn_independent_sampling": False},
    "cmaes": {"warn_independent_sampling": False},
}
_PRUNERS = {
    "none": "NopPruner",
    "median": "MedianPruner",
    "percentile": "PercentilePruner",
    "asha": "SuccessiveHalvingPruner",
    "successive_halving": "SuccessiveHalvingPruner",
    "hyperband": "HyperbandPruner",
}
# a step is a quarter of a fold
_PRUNER_DEFAULTS: dict[str, dict[str, Any]] = {
    "asha": {"min_resource": 1, "reduction_factor": 2},
    "successive_halving": {"min_resource": 1, "reduction_factor": 2},
    "percentile": {"percentile": 50.0},
    "hyperband": {"min_resource": 1, "max_resource": 4, "reduction_factor": 2},
}

State = Literal["running", "waiting", "complete", "pruned", "failed", "repeated"]


def check_tune_installed() -> None:
    """Raise MissingExtraError when the extra `tune` is not installed."""
    if find_spec("optuna") is None:
        raise MissingExtraError("ens tune", "tune")


class BrokenStudyError(StoreError):
    """The file of a study cannot be read."""


@dataclass(frozen=True)
class Trial:
    """One trial as a study keeps it. `value` is None until it is complete or pruned."""

    number: int
    state: State
    params: Mapping[str, Any]
    value: float | None
    member: str | None
    reports: Mapping[int, float]
    seconds: float
    reason: str | None

    @property
    def is_finished(self) -> bool:
        """Whether it counts as one of the trials that were asked for."""
        return self.state in ("complete", "pruned")


@dataclass(frozen=True)
class Study:
    """A study in a folder of the run. Whoever calls what changes it holds the run's claim on it."""

    folder: Path
    name: str
    space: Space
    seed: int

    @property
    def tune(self) -> TuneSpec:
        """What the recipe says of the search."""
        return self.space.tune

    @property
    def path(self) -> Path:
        """The SQLite file."""
        return self.folder / STUDY_FILE

    @property
    def direction(self) -> Literal["minimize", "maximize"]:
        """Which values of the objective are better."""
        if self.tune.objective == BLEND_OBJECTIVE:
            return "minimize"
        return (
            "maximize"
            if check_metric(self.tune.objective).greater_is_better
            else "minimize"
        )

    def is_better(self, value: float, than: float) -> bool:
        """Whether a value of the objective is better than another."""
        return value < than if self.direction == "minimize" else value > than

    def check(self) -> None:
        """Raise RequestError for options that the sampler or pruner does not take."""
        self._sampler(0)
        _ = self._pruner

    def make(self) -> None:
        """Make the study where it is not there yet."""
        if not self.path.is_file():
            self.make_file()
        with self._told() as optuna:
            optuna.create_study(
                storage=self._storage,
                study_name=self.name,
                direction=self.direction,
                load_if_exists=True,
            )

    def make_file(self) -> None:
        """Make the tables aside: whoever is killed meanwhile leaves no half of them."""
        self.folder.mkdir(parents=True, exist_ok=True)
        aside = self.folder / f".{STUDY_FILE}.{uuid.uuid4().hex[:16]}.aside"
        try:
            with self._told() as optuna:
                made = optuna.storages.RDBStorage(f"sqlite:///{aside}")
                made.engine.dispose()
            os.replace(aside, self.path)  # noqa: PTH105 as Path.replace, which reads the same
        finally:
            aside.unlink(missing_ok=True)
        sync_folder(self.folder)

    def check_file(self) -> None:
        """Raise BrokenStudyError for a file that was cut or altered."""
        if not self.path.is_file():
            return
        try:
            with sqlite3.connect(self.path, timeout=_SECONDS_TO_WAIT) as connection:
                found = connection.execute("PRAGMA quick_check").fetchone()
        except sqlite3.DatabaseError as error:
            raise self._broken(str(error)) from error
        finally:
            if "connection" in locals():
                connection.close()
        if found != ("ok",):
            raise self._broken(str(found[0]))

    def _broken(self, why: str) -> BrokenStudyError:
        return BrokenStudyError(
            f"{self.path} cannot be read ({why.splitlines()[0]}): it was cut short or altered. The "
            "trials are safe in their members: the same command with --rebuild makes the study "
            "again from them"
        )

    @property
    def is_there(self) -> bool:
        """Whether the file has a study of this name."""
        return self.name in self.names

    @property
    def names(self) -> list[str]:
        """The studies in the file."""
        if not self.path.is_file():
            return []
        with self._told() as optuna:
            return list(optuna.study.get_all_study_names(self._storage))

    @cached_property
    def _storage(self) -> Any:
        import optuna
        from sqlalchemy import event

        with self._told():
            storage = optuna.storages.RDBStorage(
                f"sqlite:///{self.path}",
                engine_kwargs={"connect_args": {"timeout": _SECONDS_TO_WAIT}},
                skip_table_creation=True,
            )
            event.listen(storage.engine, "connect", _do_not_wait_for_the_disk)
            return storage

    def close(self) -> None:
        """Close the file."""
        if "_storage" in self.__dict__:
            self._storage.engine.dispose()

    @contextmanager
    def _told(self) -> Iterator[Any]:
        """Optuna, whose errors about the file are raised as ours and whose remarks are dropped."""
        import optuna
        from sqlalchemy.exc import SQLAlchemyError

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield optuna
        except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
            cause = error.__cause__ if error.__cause__ is not None else error
            if "database or disk is full" in str(cause):
                raise EnsemblerError(
                    f"no room left to write {self.path}; what is finished is safe: make room and "
                    "give the same command again"
                ) from error
            raise self._broken(str(getattr(cause, "orig", cause))) from error

    @cached_property
    def _study(self) -> optuna.Study:
        with self._told() as optuna:
            return optuna.load_study(
                study_name=self.name,
                storage=self._storage,
                # to tell a trial none is needed, and some would end a loop that is not there
                sampler=optuna.samplers.RandomSampler(),
                pruner=self._pruner,
            )

    @contextmanager
    def _sampling(self, nth: int) -> Iterator[optuna.Study]:
        """The study while it draws its nth trial."""
        study, resting = self._study, self._study.sampler
        study.sampler = self._sampler(nth)
        try:
            yield study
        finally:
            study.sampler = resting

    def _frozen(self) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False)

    def _sampler(self, n_trials: int) -> Any:
        """The sampler for the trial after so many.

        Each has a seed of its own, so that neither a new start nor another process draws again what
        was drawn before.
        """
        seed = int(fingerprint([self.name, self.seed, n_trials])[:8], 16)
        with self._told() as optuna:
            return _built(
                "sampler",
                optuna.samplers,
                _SAMPLERS,
                _SAMPLER_DEFAULTS,
                self.tune.sampler,
                seed=seed,
            )

    @cached_property
    def _pruner(self) -> Any:
        with self._told() as optuna:
            return _built(
                "pruner", optuna.pruners, _PRUNERS, _PRUNER_DEFAULTS, self.tune.pruner
            )

    def trials(self) -> list[Trial]:
        """All trials, in their order."""
        with self._told():
            values = self._values()
            trials = [_trial(frozen) for frozen in self._frozen()]
        now = [values.get(str(trial.number), trial.value) for trial in trials]
        return [replace(t, value=value) for t, value in zip(trials, now, strict=True)]

    def ask(self, members_taken: Sequence[str]) -> Trial:
        """A new trial with its values, and the name of a member that is not taken."""
        with self._told(), self._sampling(len(self._frozen())) as study:
            return self._drawn(study.ask()._trial_id, members_taken)

    def resume(self, number: int, members_taken: Sequence[str]) -> Trial:
        """A trial whose process has ended, to be taken up again; its values are what they were."""
        with self._told(), self._sampling(number):
            return self._drawn(self._frozen()[number]._trial_id, members_taken)

    def _drawn(self, trial_id: int, members_taken: Sequence[str]) -> Trial:
        import optuna

        trial = optuna.trial.Trial(self._study, trial_id)
        self.space.draw(lambda key, dimension: _suggest(trial, key, dimension))
        attempts = int(trial.user_attrs.get("attempts", 0)) + 1
        trial.set_user_attr("attempts", attempts)
        if "member" not in trial.user_attrs:
            trial.set_user_attr("member", _free_name(trial.number, members_taken))
        return _trial(self._frozen()[trial.number])

    def release(self, number: int) -> None:
        """Leave a trial for later: that its process ended was no fault of the trial."""
        with self._told():
            frozen = self._frozen()[number]
            attempts = int(frozen.user_attrs.get("attempts", 1)) - 1
            self._storage.set_trial_user_attr(frozen._trial_id, "attempts", attempts)

    def has_died_too_often(self, number: int) -> bool:
        """Whether a trial's process was ended each time that it was tried."""
        with self._told():
            found = self._frozen()[number]
        return int(found.user_attrs.get("attempts", 0)) >= _MOST_ATTEMPTS

    def repeats(self, trial: Trial) -> Trial | None:
        """An earlier trial of the same values; None when there is none."""
        others = (
            other
            for other in self.trials()
            if other.number < trial.number
            and other.state not in ("failed", "repeated", "waiting")
        )
        return next((other for other in others if other.params == trial.params), None)

    def report(self, number: int, value: float, step: int) -> bool:
        """Keep the value of a trial at a step, once; whether it should end there."""
        import optuna

        with self._told():
            frozen = self._frozen()[number]
            trial = optuna.trial.Trial(self._study, frozen._trial_id)
            if step not in frozen.intermediate_values:
                trial.report(value, step)
            return trial.should_prune()

    def finish(
        self,
        number: int,
        state: State,
        value: float | None,
        seconds: float,
        reason: str | None = None,
    ) -> None:
        """Say what became of a trial; one that is finished already stays as it is."""
        if state in ("complete", "pruned") and (value is None or not math.isfinite(value)):
            raise ValueError(f"a trial is not {state} with the value {value}")
        with self._told() as optuna:
            frozen = self._frozen()[number]
            if frozen.state.is_finished():
                return
            trial = optuna.trial.Trial(self._study, frozen._trial_id)
            trial.set_user_attr("seconds", seconds)
            trial.set_user_attr("state", state)
            if reason is not None:
                trial.set_user_attr("reason", reason)
            if state == "pruned":
                trial.set_user_attr("value", value)
            states = optuna.trial.TrialState
            told = {"complete": states.COMPLETE, "pruned": states.PRUNED}.get(
                state, states.FAIL
            )
            self._study.tell(
                number,
                value if told is states.COMPLETE else None,
                state=told,
                skip_if_finished=True,
            )

    def add(self, record: TrialRecord) -> None:
        """Add a trial of another study, or of one that was lost, as it was."""
        with self._told() as optuna:
            states = optuna.trial.TrialState
            told = {
                "complete": states.COMPLETE,
                "pruned": states.PRUNED,
                "running": states.WAITING,
            }
            state = told.get(record.state, states.FAIL)
            attributes: dict[str, Any] = {"member": record.member, "state": record.state}
            if state is states.WAITING:
                attributes = {"member": record.member}
                self._study.enqueue_trial(record.params, user_attrs=attributes)
                return
            attributes |= {"seconds": record.seconds}
            if record.reason is not None:
                attributes["reason"] = record.reason
            if state is states.PRUNED:
                attributes["value"] = record.value
            self._study.add_trial(
                optuna.trial.create_trial(
                    state=state,
                    value=record.value if state is states.COMPLETE else None,
                    params=dict(record.params),
                    distributions={
                        key: distribution(self.tune.space[key]) for key in record.params
                    },
                    intermediate_values={int(k): v for k, v in record.reports.items()},
                    user_attrs=attributes,
                )
            )

    def revalue(self, values: Mapping[int, float]) -> None:
        """Keep values that have changed with the pool, beside those that were told."""
        with self._told():
            kept = {str(number): value for number, value in values.items()}
            self._study.set_user_attr(_VALUES, kept)

    def _values(self) -> Mapping[str, float]:
        """The values that count in the place of those that were told."""
        if self.tune.objective != BLEND_OBJECTIVE:
            return {}
        return self._study.user_attrs.get(_VALUES, {})

    def importances(self) -> dict[str, dict[str, float]]:
        """How much each value matters, by PED-ANOVA and by fANOVA; nothing of too few trials."""
        with self._told() as optuna:
            study = self._study
            found = {}
            evaluators = {
                "ped_anova": optuna.importance.PedAnovaImportanceEvaluator,
                "fanova": optuna.importance.FanovaImportanceEvaluator,
            }
            for name, evaluator in evaluators.items():
                options = {"seed": 0} if name == "fanova" else {}
                try:
                    found[name] = dict(
                        optuna.importance.get_param_importances(
                            study, evaluator=evaluator(**options)
                        )
                    )
                except (ValueError, RuntimeError):
                    # too few trials, or all of one value: there is nothing to say
                    continue
            return found


def _do_not_wait_for_the_disk(connection: sqlite3.Connection, _record: object) -> None:
    """Let SQLite leave it to the system when bytes reach the disk.

    A process that is killed loses nothing by it. What a power failure takes is made again from the
    members, which do reach the disk.
    """
    connection.execute("PRAGMA synchronous = OFF")


def _built(
    kind: str,
    module: Any,
    classes: Mapping[str, str],
    defaults: Mapping[str, Mapping[str, Any]],
    given: Algorithm,
    **fixed: Any,
) -> Any:
    """A sampler or pruner of Optuna; RequestError for options that it does not take."""
    name = algorithm_name(given)
    options = {**defaults.get(name, {}), **algorithm_options(given), **fixed}
    try:
        return getattr(module, classes[name])(**options)
    except ImportError as error:
        raise RequestError(
            f"tune.{kind}: {name} needs the package {error.name or str(error)!r}, which is not "
            "installed"
        ) from error
    except (TypeError, ValueError) as error:
        message = str(error).replace(f"{classes[name]}.__init__() ", "")
        raise RequestError(f"tune.{kind}: {name}: {message}") from error


def distribution(dimension: DimensionSpec) -> BaseDistribution:
    """What a key of the space is to Optuna."""
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    if dimension.choices is not None:
        return CategoricalDistribution(choices_of(dimension))
    low, high = dimension.range
    if dimension.int_ is not None:
        step = int(dimension.step or 1)
        return IntDistribution(int(low), int(high), log=dimension.log, step=step)
    return FloatDistribution(low, high, log=dimension.log, step=dimension.step)


def _suggest(trial: optuna.Trial, key: str, dimension: DimensionSpec) -> Any:
    return trial._suggest(key, distribution(dimension))


def _free_name(number: int, taken: Sequence[str]) -> str:
    """The name of a trial's member: after its number, or the first that is free."""
    while (name := f"tune-{number:04d}") in taken:
        number += 1
    return name


_STATES: dict[str, State] = {
    "COMPLETE": "complete",
    "PRUNED": "pruned",
    "FAIL": "failed",
    "WAITING": "waiting",
    "RUNNING": "running",
}


def _trial(frozen: FrozenTrial) -> Trial:
    told = frozen.user_attrs
    state = _STATES[frozen.state.name]
    if state == "failed" and told.get("state") == "repeated":
        state = "repeated"
    value = told.get("value", frozen.value)
    return Trial(
        number=frozen.number,
        state=state,
        params=dict(frozen.params),
        value=None if value is None else float(value),
        member=told.get("member"),
        reports=dict(frozen.intermediate_values),
        seconds=float(told.get("seconds", 0.0)),
        reason=told.get("reason"),
    )
