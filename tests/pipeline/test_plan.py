"""`ens plan`: steps, their order and what fits, with prices that are made up."""

import json
from datetime import UTC, datetime

import pytest

from ensembler import Recipe
from ensembler.deadline import Deadline
from ensembler.machine.execution import Execution
from ensembler.members.prices import Price, Seconds
from ensembler.pipeline.plan import Planner, Slots
from ensembler.workspace.preview import preview_workspace

ROW = {"narrow": 0.1, "wide": 1.0}  # seconds


class FakePrices:
    """Narrow folds are cheap, wide ones dear; nothing has to be timed."""

    def measured(self, training):
        return (training,)

    def price(self, training):
        return Price(ROW[training.name], 0.001, 1.0, "earlier folds", (0.9, 1.1))

    def fold(self, training, _fold):
        return Seconds(ROW[training.name])

    def blending(self, _workspace):
        return Seconds(2.0, 1.0, 4.0)


@pytest.fixture
def plan(recipe, tmp_path):
    def make(seconds=None, **selection):
        deadline = seconds and Deadline(datetime.now(UTC), seconds, clock=lambda: 0.0)
        with preview_workspace(Recipe.load(recipe), tmp_path / "artifacts") as workspace:
            planner = Planner(workspace, Execution("cpu"), FakePrices())
            return planner.plan(deadline, **selection)

    return make


def folds_of(plan, *, planned):
    steps = [s for s in plan.steps if s.kind == "fold" and s.planned is planned]
    return [f"{step.member}{step.fold}" for step in steps]


def test_everything_is_planned_without_a_deadline(plan):
    found = plan()
    cheap_first = [f"{name}{fold}" for fold in range(3) for name in ("narrow", "wide")]
    assert folds_of(found, planned=True) == cheap_first
    assert [step.kind for step in found.steps] == [
        "decode",
        *(["fold", "predict"] * 6),
        "blend",
    ]
    total = sum(step.seconds.expected for step in found.steps)
    assert found.seconds.expected == pytest.approx(total)
    assert found.seconds.low < total < found.seconds.high


def test_what_cannot_end_in_time_is_left_out_and_what_still_fits_is_not(plan):
    wide = plan().steps[3].seconds.expected
    found = plan(seconds=wide * 0.9)
    assert folds_of(found, planned=True) == ["narrow0", "narrow1", "narrow2"]
    assert folds_of(found, planned=False) == ["wide0", "wide1", "wide2"]
    assert "no time: it takes up to" in found.left_out[0].reason
    assert found.seconds.high < wide * 0.9


def test_refits_come_after_all_folds_and_only_when_none_is_left_out(recipe, tmp_path):
    loaded = Recipe.load(recipe, ["members.narrow.refit={seeds: 2}"])

    def plan(seconds=None):
        deadline = seconds and Deadline(datetime.now(UTC), seconds, clock=lambda: 0.0)
        with preview_workspace(loaded, tmp_path / "artifacts") as workspace:
            return Planner(workspace, Execution("cpu"), FakePrices()).plan(deadline)

    found = plan()
    *_, refit, blend = found.steps
    assert (refit.kind, refit.member, refit.planned) == ("refit", "narrow-refit", True)
    # two networks on all rows take longer than two folds
    folds = [s.seconds.expected for s in found.steps if s.member == "narrow"][:4]
    assert refit.seconds.expected > sum(folds)
    total = sum(step.seconds.expected for step in found.steps)
    assert found.seconds.expected == pytest.approx(total)
    no_time_for_it = plan(seconds=found.seconds.high - blend.seconds.high)
    assert [s.kind for s in no_time_for_it.left_out] == ["refit"]
    assert "after all folds" in no_time_for_it.left_out[0].reason
    no_time_for_wide = plan(seconds=found.seconds.high / 2)
    assert not no_time_for_wide.steps[-2].planned
    assert "some are left out" in no_time_for_wide.steps[-2].reason


class DoubtfulPrices(FakePrices):
    """Prices that may be far too low."""

    def price(self, training):
        return Price(ROW[training.name], 0.001, 1.0, "timed batches", (0.6, 3.0))


def test_prices_that_may_be_far_too_low_leave_a_fold_that_fits(recipe, tmp_path):
    deadline = Deadline(datetime.now(UTC), 150.0, clock=lambda: 0.0)
    loaded = Recipe.load(recipe, ["defaults.epochs=auto"])
    with preview_workspace(loaded, tmp_path / "artifacts") as workspace:
        found = Planner(workspace, Execution("cpu"), DoubtfulPrices()).plan(deadline)
    assert found.epochs
    assert "narrow0" in folds_of(found, planned=True)


def test_no_fold_gets_more_epochs_than_end_in_time_with_many_processes(recipe, tmp_path):
    deadline = Deadline(datetime.now(UTC), 150.0, clock=lambda: 0.0)
    loaded = Recipe.load(recipe, ["defaults.epochs=auto"])
    with preview_workspace(loaded, tmp_path / "artifacts") as workspace:
        planner = Planner(workspace, Execution("cpu", processes=8), FakePrices())
        found = planner.plan(deadline, members=["wide"])
    assert found.epochs
    assert folds_of(found, planned=True) == ["wide0", "wide1", "wide2"]


def test_the_shortest_deadline_is_one_epoch_of_the_smallest_member(plan):
    found = plan()
    narrow = found.steps[1]
    assert narrow.epochs == 2
    least = narrow.seconds.expected / 2 + found.steps[2].seconds.expected + 2.0
    assert found.shortest == pytest.approx(least + found.steps[0].seconds.expected, rel=0.2)


def test_members_and_folds_are_selected_as_in_a_run(plan):
    assert folds_of(plan(members=["wide"], folds=[1]), planned=True) == ["wide1"]


def test_broken_images_are_the_business_of_the_run(plan, recipe):
    images = recipe.parent / "shapes" / "images"
    (images / "00000.png").write_bytes((images / "00000.png").read_bytes()[:200])
    (images / "00001.png").write_bytes(b"")
    assert plan().steps[0].kind == "decode"


def test_a_plan_leaves_no_run_behind(plan, tmp_path):
    plan()
    assert not (tmp_path / "artifacts" / "shapes").exists()


def test_two_processes_share_the_folds():
    slots = Slots(2, Seconds(1, 1, 1), left=11.0)
    ten = Seconds(10, 9, 10)
    assert slots.add(ten)
    assert slots.add(ten)
    assert not slots.add(Seconds(1, 1, 1))
    assert slots.end.expected == 11


def test_json_says_every_step(plan):
    found = json.loads(json.dumps(plan(seconds=60.0).to_json()))
    keys = {
        "kind",
        "member",
        "fold",
        "epochs",
        "seconds",
        "low",
        "high",
        "planned",
        "reason",
    }
    assert {key for step in found["steps"] for key in step} == keys
    assert found["deadline"].endswith("+00:00")
    assert found["run"] == "shapes"


@pytest.mark.slow
def test_of_a_run_that_is_there_only_what_is_missing_is_planned(finished):
    artifacts = finished.parent / "artifacts"
    with preview_workspace(Recipe.load(finished), artifacts) as workspace:
        found = Planner(workspace, Execution("cpu"), FakePrices()).plan(None)
    assert [step.kind for step in found.steps] == ["blend"]
    assert found.shortest is None
