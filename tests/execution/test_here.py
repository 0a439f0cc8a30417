"""Which folds are done, in which order, and when it ends: with a trainer that trains nothing."""

from typing import ClassVar

import pytest

from ensembler.execution import here
from ensembler.execution.executors import executor_of
from ensembler.execution.here import Here
from ensembler.execution.processes import Processes
from ensembler.machine.execution import Execution
from ensembler.members.executor import Failure, FinishedTask
from ensembler.progress import FoldCost, FoldTask
from ensembler.stop import Stop, Stopped

TASKS = [FoldTask("cnn", fold, FoldCost(3)) for fold in range(3)]


class FakeTrainer:
    """Does what `outcomes` says of a fold, once the other process that holds it is done."""

    outcomes: ClassVar[dict] = {}
    held: ClassVar[set] = set()
    asked: ClassVar[list] = []

    def __init__(self, *_):
        pass

    def finish(self, task, *, wait):
        self.asked.append((task.fold, wait))
        if task.fold in self.held and not wait:
            return None
        outcome = self.outcomes.pop(task.fold, None)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


@pytest.fixture
def trainer(monkeypatch):
    monkeypatch.setattr(here, "FoldTrainer", FakeTrainer)
    done = {task.fold: FinishedTask(task, was_trained=True) for task in TASKS}
    monkeypatch.setattr(FakeTrainer, "outcomes", done)
    monkeypatch.setattr(FakeTrainer, "held", set())
    monkeypatch.setattr(FakeTrainer, "asked", [])
    return FakeTrainer


def folds(stop=None):
    results = Here(Execution("cpu")).run(None, [], TASKS, stop or Stop())
    return [
        result.task.fold if isinstance(result, FinishedTask) else result
        for result in results
    ]


def test_folds_that_others_work_on_are_waited_for_last(trainer):
    trainer.held = {0}
    assert folds() == [1, 2, 0]
    assert trainer.asked == [
        (0, False),
        (1, False),
        (2, False),
        (0, True),
        (1, True),
        (2, True),
    ]


def test_a_failure_is_a_result_and_the_other_folds_are_done(trainer):
    failure = Failure("cnn", 1, "no")
    trainer.outcomes[1] = failure
    assert folds() == [0, failure, 2]


def test_a_stop_that_was_asked_for_ends_before_the_next_fold(trainer):
    stop = Stop()
    results = Here(Execution("cpu")).run(None, [], TASKS, stop)
    next(results)
    stop.request("deadline")
    assert list(results) == []
    assert trainer.asked == [(0, False)]


def test_a_fold_that_is_stopped_in_the_middle_ends_the_others_too(trainer):
    trainer.outcomes[1] = Stopped("stopped: deadline")
    assert folds() == [0]


def test_an_error_that_concerns_all_members_is_raised(trainer):
    trainer.outcomes[1] = OSError("no disk")
    with pytest.raises(OSError, match="no disk"):
        folds()


def test_one_process_trains_here_and_several_elsewhere():
    assert isinstance(executor_of(Execution()), Here)
    several = executor_of(Execution(processes=3))
    assert isinstance(several, Processes)
    assert several.at_once == 3
