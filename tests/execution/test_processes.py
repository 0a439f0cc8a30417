import multiprocessing
import os
import time
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest
import torch

from ensembler import Recipe, Run
from ensembler.deadline import Deadline
from ensembler.execution import processes
from ensembler.execution.grace import Grace
from ensembler.execution.shares import share_of_loaders
from ensembler.machine.execution import Execution
from ensembler.members.executor import FinishedTask
from ensembler.pipeline.run import run_recipe
from ensembler.pipeline.train import train_recipe
from ensembler.progress import FoldCost, FoldTask, Progress
from ensembler.stop import Stop


class Heard(Progress):
    def __init__(self):
        self.epochs, self.folds, self.warnings, self.notes = [], [], [], []

    def epoch(self, epoch):
        self.epochs.append((epoch.training, epoch.fold, epoch.epoch))

    def fold_done(self, task, text):
        self.folds.append((task.training, task.fold))

    def warn(self, text):
        self.warnings.append(text)

    def note(self, text):
        self.notes.append(text)


def kfold(recipe, folder, *overrides, n=1, **options):
    return train_recipe(
        Recipe.load(recipe, overrides),
        recipe.parent / folder,
        execution=Execution("cpu", processes=n),
        **options,
    )


@pytest.mark.slow
def test_folds_trained_at_once_are_those_trained_one_by_one(recipe, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(recipe.parent), prepend=os.pathsep)
    manifest = recipe.parent / "shapes/train.csv"
    table = pd.read_csv(manifest)
    table.loc[0, "label"] += " "
    table.to_csv(manifest, index=False)
    heard = Heard()
    together = kfold(recipe, "together", "members.odd={lr: 1.0e+30}", n=2, progress=heard)
    assert sorted(heard.folds) == [(m, k) for m in ("narrow", "wide") for k in range(3)]
    assert len(set(heard.epochs)) == len(heard.epochs) == 12
    assert together.complete == ("narrow", "wide")
    assert {failure.member for failure in together.failures} == {"odd"}
    assert len(together.trained) == 6
    assert (
        len([warning for warning in heard.warnings if "'odd'" in warning]) == 1
    )  # it fails in one process, once
    assert len([note for note in heard.notes if "the spaces around 1 label" in note]) == 1

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        kfold(recipe, "alone")
    finally:
        torch.set_num_threads(threads)
    for name in ("narrow", "wide"):
        both = [
            Run.open("shapes", recipe.parent / f).members[name].oof_logits
            for f in ("together", "alone")
        ]
        np.testing.assert_allclose(both[0], both[1], atol=1e-5)


@pytest.mark.slow
def test_a_process_that_is_killed_leaves_its_folds_to_the_others(recipe, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(recipe.parent), prepend=os.pathsep)

    class Killing(Heard):
        def epoch(self, epoch):
            super().epoch(epoch)
            if len(self.epochs) == 1:
                multiprocessing.active_children()[0].kill()

    heard = Killing()
    result = kfold(recipe, "artifacts", n=2, progress=heard)
    assert result.complete == ("narrow", "wide")
    assert any("died" in warning for warning in heard.warnings)


@pytest.mark.parametrize(
    ("device", "alone", "n", "each"),
    [("cuda", 8, 3, 2), ("cuda", 2, 4, 1), ("cpu", 0, 4, 0)],
)
def test_processes_share_the_loader_processes_that_one_would_take(
    monkeypatch, device, alone, n, each
):
    from ensembler.networks import devices

    monkeypatch.setattr(devices, "pick_device", lambda name: name)
    monkeypatch.setattr(
        devices, "loader_processes", lambda name: alone if name == device else None
    )
    assert share_of_loaders(n, device) == each


@pytest.fixture
def workers():
    """The ends of two workers, and what reads them under a stop signal with a clock of its own."""
    context = multiprocessing.get_context("spawn")
    pipes = [context.Pipe(duplex=False) for _ in range(2)]

    class Workers:
        def __init__(self):
            self.now = 0.0
            self.senders = [sender for _, sender in pipes]
            self.progress, self.asked = Heard(), context.Event()

        def results(self, stop):
            receivers = [receiver for receiver, _ in pipes]
            clock = lambda: self.now  # noqa: E731 the clock of both
            grace = Grace(stop, clock)
            return processes._Results(receivers, self.progress, stop, self.asked, grace)

    return Workers()


TASK = FoldTask("cnn", 0, FoldCost(3))


def test_a_worker_that_loses_its_device_leaves_its_folds_to_the_others(workers):
    first, second = workers.senders
    first.send(processes.WorkerLost("cuda:0 does not compute any more"))
    second.send(FinishedTask(TASK, was_trained=True))
    second.send(processes.WorkerDone())
    results = workers.results(Stop())
    assert list(results.all()) == [FinishedTask(TASK, was_trained=True)]
    assert results.lost == {0: "cuda:0 does not compute any more"}
    assert workers.progress.warnings == [
        "cuda:0 does not compute any more; the others do its folds"
    ]


def test_workers_are_asked_to_end_their_epoch_and_are_heard_until_they_have(workers):
    stop = Stop()
    stop.request("interrupted")
    done = FinishedTask(TASK, was_trained=True, is_short=True)
    for sender in workers.senders:
        sender.send(done)
        sender.send(processes.WorkerDone())
    assert list(workers.results(stop).all()) == [done, done]
    assert workers.asked.is_set()
    theirs = Stop().for_other_process(workers.asked.is_set)
    assert theirs.reason == "interrupted"


def test_workers_that_do_not_end_after_their_time_are_left(workers, monkeypatch):
    monkeypatch.setattr(processes, "_LOOK_EVERY", 0.01)
    stop = Stop(10.0, clock=lambda: workers.now)
    stop.kept_back = 20.0
    results = workers.results(stop)
    looked = []

    def wait(receivers, timeout):
        looked.append(workers.now)
        workers.now += 3.0
        return []

    monkeypatch.setattr(processes, "wait", wait)
    assert list(results.all()) == []
    # half of what is kept back after the end, which is at 10
    assert looked[-1] == pytest.approx(21.0, abs=3.0)


@pytest.mark.slow
def test_two_devices_share_the_folds_of_a_run_under_a_deadline(recipe, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(recipe.parent), prepend=os.pathsep)
    loaded = Recipe.load(
        recipe, ["members.endless={epochs: 200000, model_args: {width: 9}}"]
    )
    ends = time.monotonic() + 120.0
    found = run_recipe(
        loaded,
        recipe.parent / "artifacts",
        execution=Execution.on("cpu,cpu"),
        deadline=Deadline(datetime.now(UTC), ends),
        progress=Heard(),
    )
    assert time.monotonic() < ends + 10.0
    assert found.stopped == "deadline"
    assert {fold.task.training for fold in found.left_out} == {"endless"}
    assert len(found.left_out) == 3
    assert found.failures == ()
    assert found.blend == "soft"
    assert len(pd.read_csv(found.submission)) == 15
