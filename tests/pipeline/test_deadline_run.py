"""`ens run --deadline`: real trainings under prices that are made up and a clock moved by hand.

An epoch of narrow takes 10 seconds, one of wide 100, and each fold 5 seconds beside its epochs.
"""

import hashlib
import time
from dataclasses import replace
from datetime import UTC, datetime

import pandas as pd
import pytest

from ensembler import Recipe
from ensembler.deadline import Deadline
from ensembler.errors import RequestError
from ensembler.machine.execution import Execution
from ensembler.members.prices import Price, PriceList, Seconds
from ensembler.members.tta_predict import predict_missing_views
from ensembler.pipeline.run import run_recipe
from ensembler.predictions.store import RunStore
from ensembler.progress import RecordedProgress
from ensembler.recipe.members import refit_name
from ensembler.reporting.versions import submission_versions

pytestmark = pytest.mark.slow
EPOCH = {"narrow": 10.0, "wide": 100.0}
RESERVE = 20.0


def kind(training):
    """narrow or wide, also of shortened folds and refits."""
    return next(name for name in EPOCH if training.startswith(name))


class Clock(RecordedProgress):
    """A clock that every epoch moves by what it costs, times `slower`."""

    def __init__(self, slower=1.0):
        super().__init__()
        self.now, self.slower = 0.0, slower

    def __call__(self):
        return self.now

    def epoch(self, epoch):
        super().epoch(epoch)
        self.now += self.slower * EPOCH[kind(epoch.training)]
        if epoch.epoch == epoch.epochs:
            self.now += 5.0


@pytest.fixture(autouse=True)
def prices(monkeypatch):
    def price(_self, training):
        rows = len(training.all_plans[0].rows.rows_of_fold(0, validation=False))
        return Price(
            EPOCH[kind(training.name)] / rows, 0.0, 5.0, "earlier folds", (0.9, 1.1)
        )

    monkeypatch.setattr(PriceList, "price", price)
    monkeypatch.setattr(PriceList, "measured", lambda _self, training: (training,))
    monkeypatch.setattr(PriceList, "blending", lambda *_: Seconds(8.0, 5.0, RESERVE))
    monkeypatch.setattr("ensembler.data.pixels.are_prepared", lambda *_: True)


def run(recipe, seconds=None, clock=None, overrides=(), **options):
    clock = clock or Clock()
    clock.now = 0.0
    deadline = seconds and Deadline(datetime.now(UTC), seconds, clock)
    return run_recipe(
        Recipe.load(recipe, overrides),
        recipe.parent / "artifacts",
        execution=Execution("cpu"),
        progress=clock,
        deadline=deadline,
        **options,
    )


def folds_done(clock):
    return [f"{task.training}{task.fold}" for task in clock.finished]


def logits(recipe):
    members = recipe.parent / "artifacts" / "shapes" / "members"
    return {
        str(path.relative_to(members)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(members.rglob("*.npy"))
    }


def test_what_does_not_end_in_time_is_left_out_and_the_next_run_trains_it(recipe):
    clock = Clock()
    first = run(recipe, 110.0, clock)
    # 90 seconds for training: three folds of narrow take 25 each, one of wide 205
    assert folds_done(clock) == ["narrow0", "narrow1", "narrow2"]
    assert first.stopped == "deadline"
    assert [fold.task.training for fold in first.left_out] == ["wide"] * 3
    assert "it takes up to" in first.left_out[0].reason
    assert clock.now <= 110.0
    assert first.blend == "soft"
    assert len(pd.read_csv(first.submission)) == 15
    again = run(recipe)
    assert again.stopped is None
    assert again.left_out == ()
    assert again.trained == 3
    assert RunStore(again.folder).complete_members == ["narrow", "wide"]


def test_a_run_that_is_done_was_not_stopped_however_late_it_is(recipe):
    clock, one = Clock(slower=1.3), ["defaults.epochs=1"]
    found = run(recipe, 73.0, clock, one, members=["narrow"])
    # 53 seconds for training: the third fold of 18 begins when 17 are left
    assert clock.now > 53.0
    assert folds_done(clock) == ["narrow0", "narrow1", "narrow2"]
    assert found.stopped is None
    assert found.left_out == ()


def test_a_finished_run_needs_no_time(finished):
    # a blend would take 8 s
    found = run(finished, 5.0)
    assert found.stopped is None
    assert found.blend == "soft"
    assert found.evaluation is not None
    assert found.submission is not None


def test_time_for_the_views_that_members_lack_is_kept_back(recipe, monkeypatch):
    one = ["defaults.epochs=1"]
    run(recipe, None, None, [*one, "views=[identity]"], members=["narrow"])
    blends = []
    monkeypatch.setattr(PriceList, "add_blend", lambda _self, _, s: blends.append(s))

    def slow_views(workspace, execution):
        time.sleep(3.0)
        return predict_missing_views(workspace, execution)

    monkeypatch.setattr("ensembler.pipeline.run.predict_missing_views", slow_views)
    priced = PriceList.price

    def price(self, training):
        found = priced(self, training)
        return replace(found, prediction=1.0) if training.name == "narrow" else found

    monkeypatch.setattr(PriceList, "price", price)
    # a fold of wide takes up to 116 s, and the views of narrow about as much
    clock = Clock()
    found = run(recipe, 180.0, clock, one)
    assert folds_done(clock) == []
    assert found.stopped == "deadline"
    assert [fold.task.training for fold in found.left_out] == ["wide"] * 3
    (seconds,) = blends
    assert seconds < 3.0


def test_a_refit_for_which_there_is_no_time_is_left_out_and_made_later(recipe):
    asked = ["members.narrow.refit={seeds: 1}"]
    clock = Clock()
    found = run(recipe, 100.0, clock, asked, members=["narrow"])
    assert folds_done(clock) == ["narrow0", "narrow1", "narrow2"]
    assert found.stopped == "deadline"
    assert [fold.task.training for fold in found.left_out] == [refit_name("narrow")]
    assert clock.now <= 100.0
    again = run(recipe, None, clock, asked, members=["narrow"])
    assert again.stopped is None
    assert refit_name("narrow") in RunStore(again.folder).complete_members


def test_before_all_folds_are_there_the_finished_ones_are_submitted(recipe):
    clock = Clock()
    first = run(recipe, 80.0, clock)
    assert folds_done(clock) == ["narrow0", "narrow1"]
    assert first.blend is None
    assert first.stopped == "deadline"
    assert first.submission is not None
    newest = submission_versions(RunStore(first.folder))[-1]
    assert newest.made_of.folds == {"narrow": (0, 1)}


def test_the_least_is_one_fold_of_the_smallest_member_with_fewer_epochs(recipe):
    longer = ["defaults.epochs=10"]
    clock = Clock()
    first = run(recipe, 90.0, clock, longer)
    # 70 seconds: 5 beside the epochs, and epochs that may take 12.5 seconds each after the first
    assert folds_done(clock) == ["narrow@short0"]
    assert len(clock.epochs) == 5
    assert clock.epochs[-1].epochs == 5
    assert any("is trained for 5 epochs" in note for note in clock.notes)
    assert first.stopped == "deadline"
    assert first.has_folds
    assert first.submission is not None
    assert len(first.left_out) == 6
    # a shorter one trains nothing, and what is there stays
    second = run(recipe, 60.0, clock, longer)
    assert len(clock.epochs) == 5
    assert second.submission == first.submission


def test_a_run_that_goes_on_without_a_deadline_ends_as_if_there_had_been_none(recipe):
    run(recipe, 40.0)
    done = run(recipe)
    there = logits(recipe)
    assert RunStore(done.folder).begun_members == []
    made = done.submission.read_bytes()
    elsewhere = run_recipe(Recipe.load(recipe), recipe.parent / "others")
    others = elsewhere.folder / "members"
    assert there == {
        str(path.relative_to(others)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(others.rglob("*.npy"))
    }
    assert elsewhere.submission.read_bytes() == made


def test_a_deadline_shorter_than_the_least_is_refused_before_anything_begins(recipe):
    with pytest.raises(RequestError, match=r"the shortest that would do is --deadline 26s"):
        run(recipe, 20.0)
    assert not (recipe.parent / "artifacts" / "shapes").exists()
    assert run(recipe, 26.0).submission is not None


def test_a_fold_that_turns_out_too_long_is_given_up_and_goes_on_later(recipe):
    longer = ["members.wide.epochs=4", "members.narrow.epochs=1"]
    run(recipe, 60.0, overrides=longer, members=["narrow"], folds=[0])
    clock = Clock(slower=3.0)
    found = run(recipe, 480.0, clock, longer, members=["wide"], folds=[0])
    assert folds_done(clock) == []
    assert [epoch.epoch for epoch in clock.epochs] == [1]
    assert found.stopped == "deadline"
    assert "more epochs take" in found.left_out[0].reason
    assert found.submission is not None
    clock = Clock()
    run(recipe, None, clock, longer, members=["wide"], folds=[0])
    assert [epoch.epoch for epoch in clock.epochs] == [2, 3, 4]


def test_the_only_network_there_is_is_submitted_when_time_ends_in_its_training(recipe):
    clock = Clock(slower=2.0)
    found = run(recipe, 95.0, clock, ["defaults.epochs=6"])
    assert found.stopped == "deadline"
    assert [epoch.epoch for epoch in clock.epochs] == [1, 2, 3]
    assert folds_done(clock) == ["narrow@short0"]
    assert found.submission is not None
    clock = Clock()
    run(recipe, None, clock, ["defaults.epochs=6"], members=["narrow"], folds=[0])
    assert [epoch.epoch for epoch in clock.epochs] == [4, 5, 6]


def test_auto_epochs_are_fixed_by_the_first_deadline(recipe):
    auto = ["defaults.epochs=auto"]
    clock = Clock()
    found = run(recipe, 520.0, clock, auto)
    (n,) = {epoch.epochs for epoch in clock.epochs}
    # 500 seconds: half of a hundred epochs, which would be enough, has not even one fold
    assert n == 44
    assert len(clock.finished) == 1
    assert found.stopped == "deadline"
    assert {fold.task.training for fold in found.left_out} >= {"wide"}
    lock = RunStore(found.folder).lock
    assert lock.choices["epochs"]["narrow"].chosen == {"epochs": n}
    assert "wide" not in lock.choices["epochs"]
    assert lock.recipe["members"]["narrow"]["epochs"] == "auto"
    done = len(clock.finished)
    clock = Clock()
    run(recipe, 5000.0, clock, auto, members=["narrow"])
    assert {epoch.epochs for epoch in clock.epochs} <= {n}
    assert len(clock.finished) == 3 - done


def test_without_a_deadline_auto_is_ten_epochs(recipe):
    clock = Clock()
    run(recipe, None, clock, ["defaults.epochs=auto"], members=["narrow"], folds=[0])
    assert len(clock.epochs) == 10
    assert RunStore(recipe.parent / "artifacts" / "shapes").lock.choices[
        "epochs"
    ].keys() == {"narrow"}
