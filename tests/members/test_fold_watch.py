"""What a fold took, as it is kept for the prices of later ones; records and clock are made up."""

import pytest

from ensembler import Recipe
from ensembler.members.fold_watch import FoldWatch
from ensembler.members.schedule import trainings_of
from ensembler.predictions.finished_folds import FinishedFold
from ensembler.workspace.workspace import open_workspace

SOUP = "members.both={method: soup, of: [narrow, narrow-ema]}"


class Kept:
    """The price list, which remembers what it is given."""

    def add(self, _training, measured):
        self.measured = measured


@pytest.fixture
def watched(recipe, tmp_path):
    """A fold that took 100 s, 8 of them to predict; its records tell of 60 s of training."""

    def watch(members, overrides, n_epochs):
        loaded = Recipe.load(recipe, overrides)
        workspace = open_workspace(loaded, tmp_path / "artifacts")
        (training,) = trainings_of(workspace, workspace.select(members))
        times = iter([0.0, 100.0])
        watch = FoldWatch(training, 0, clock=lambda: next(times))
        for _ in training.plans:
            record = {
                "seconds": 60.0 / len(training.all_plans),
                "history": [{"seconds": 60.0 / n_epochs}] * n_epochs,
                "seconds_predicting": 8.0 / len(training.plans),
            }
            watch.finished(FinishedFold(0, None, None, None, record))
        kept = Kept()
        watch.keep(kept)
        return kept.measured

    return watch


ALSO = ["members.narrow.also=[ema]"]


@pytest.mark.parametrize("members", [["narrow"], ["narrow-ema"]])
def test_members_that_are_not_asked_for_were_trained_all_the_same(watched, members):
    assert watched(members, ALSO, n_epochs=2).around == pytest.approx(100.0 - 60.0 - 8.0)


def test_early_stopping_counts_whoever_is_asked_for(watched):
    one, both = (watched(names, ALSO, 1) for names in (["narrow-ema"], ["narrow"]))
    assert one.row == pytest.approx(both.row)
    assert one.row > 0


def test_a_soup_costs_what_averaging_takes(watched):
    assert watched(["both"], [*ALSO, SOUP], n_epochs=1).around == pytest.approx(100.0 - 8.0)
