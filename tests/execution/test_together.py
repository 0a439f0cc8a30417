"""Folds at the same time in one process: with a trainer that trains nothing, and a real one."""

import dataclasses
import time

import numpy as np
import pytest

from ensembler import Recipe, Run
from ensembler.execution import executors, here, together
from ensembler.execution.together import Together
from ensembler.machine.execution import Execution
from ensembler.members.executor import Failure, FinishedTask
from ensembler.pipeline.train import train_recipe
from ensembler.progress import FoldCost, FoldTask, Progress, RecordedProgress
from ensembler.stop import Stop, Stopped
from ensembler.training.turns import Shared

TASKS = [FoldTask("cnn", fold, FoldCost(3)) for fold in range(4)]


@dataclasses.dataclass(frozen=True)
class FakeWorkspace:
    progress: Progress


@dataclasses.dataclass(frozen=True)
class FakeTrainer:
    """Passes the baton on at every step; a fold's outcome is what `outcomes` says of it."""

    workspace: FakeWorkspace
    outcomes: dict
    execution: Execution
    stop: Stop
    turns: Shared | None = None

    def finish(self, task, *, wait):
        if self.turns is None:
            return None  # of what is left there is nothing
        for step in range(3):
            self.workspace.progress.step(f"fold {task.fold}", step, 3)
            self.turns.ends.check()
            while task.fold == 0 and not self.turns.baton.is_asked_for:
                time.sleep(0.001)  # until another thread has begun
            self.turns.baton.pass_on()
        outcome = self.outcomes.get(task.fold, FinishedTask(task, was_trained=True))
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


@pytest.fixture
def trainer(monkeypatch):
    outcomes = {}
    for module in (here, together):
        monkeypatch.setattr(
            module, "FoldTrainer", lambda at, _, *more: FakeTrainer(at, outcomes, *more)
        )
    monkeypatch.setattr(together, "trainings_of", lambda *_: [])
    return outcomes


def run(progress=None, stop=None, n=2):
    executor = Together(Execution("cpu", processes=n))
    workspace = FakeWorkspace(progress or Progress())
    return executor.run(workspace, [], TASKS, stop or Stop())


def test_all_folds_are_done_two_at_a_time(trainer):
    progress = RecordedProgress()
    results = list(run(progress))
    assert sorted(result.task.fold for result in results) == [0, 1, 2, 3]
    first = [what for what, _, _ in progress.steps[:4]]
    assert first == ["fold 0", "fold 1"] * 2


def test_a_failure_is_a_result_and_an_error_of_the_whole_job_is_raised(trainer):
    trainer[1] = Failure("cnn", 1, "no")
    assert trainer[1] in list(run())
    trainer[2] = OSError("no disk")
    with pytest.raises(OSError, match="no disk"):
        list(run())


def test_whoever_stops_listening_ends_all_threads_before_their_next_step(trainer):
    progress = RecordedProgress()
    results = run(progress, n=3)
    next(results)
    results.close()
    assert len(progress.steps) < 12


def test_a_stop_ends_the_folds_and_none_begins(trainer):
    trainer[0] = trainer[1] = Stopped("stopped: deadline")
    stop = Stop()
    stop.request("deadline")
    assert list(run(stop=stop)) == []


@pytest.mark.slow
def test_folds_trained_together_are_those_trained_one_by_one(recipe, monkeypatch):
    def kfold(folder, **execution):
        return train_recipe(
            Recipe.load(recipe, ["augment=light"]),
            recipe.parent / folder,
            execution=Execution("cpu", **execution),
            members=["narrow"],
        )

    alone = kfold("alone")
    monkeypatch.setattr(executors, "Processes", Together)
    at_once = kfold("together", processes=2)
    assert (at_once.complete, at_once.failures) == (alone.complete, ())
    assert len(at_once.trained) == len(alone.trained)
    both = [
        Run.open("shapes", recipe.parent / folder).members["narrow"].oof_logits
        for folder in ("alone", "together")
    ]
    np.testing.assert_array_equal(*both)
