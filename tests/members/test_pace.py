"""The time left, on a clock of its own: even, loaded, early, parallel, untimed."""

import itertools
import random

import pytest

from ensembler.members.pace import Estimate, TimeLeft
from ensembler.progress import Epoch, FoldCost, FoldTask


class Training:
    """Replays epochs; their seconds pass on the clock unless folds are trained at once."""

    def __init__(self, *tasks, at_once=1):
        self.now = 0.0
        self.left = TimeLeft(clock=lambda: self.now)
        self.tasks = {(task.training, task.fold): task for task in tasks}
        self.left.plan(tasks, at_once)

    def epochs(self, name, fold, *seconds, start=1):
        for i, took in enumerate(seconds, start=start):
            self.now += took
            epochs = self.tasks[name, fold].cost.epochs
            self.left.epoch(Epoch(name, fold, i, epochs, None, None, took))
        return self.left.estimate

    def finish(self, name, fold, after=0.0):
        self.now += after
        self.left.fold_done(self.tasks[name, fold])


def folds(name, epochs, n=5, **cost):
    return [FoldTask(name, fold, FoldCost(epochs, **cost)) for fold in range(n)]


def exactly(seconds, *untimed):
    return Estimate(pytest.approx(seconds), pytest.approx(seconds), untimed)


def under(load, n, fold_epochs=10):
    """The estimates after each epoch of a job of `n` epochs, and what was really left then."""
    training = Training(*folds("cnn", fold_epochs, n=n // fold_epochs))
    seconds = [2.0 * load(i) for i in range(n)]
    for i, took in enumerate(seconds):
        fold, epoch = divmod(i, fold_epochs)
        estimate = training.epochs("cnn", fold, took, start=epoch + 1)
        if epoch + 1 == fold_epochs:
            training.finish("cnn", fold)
        if estimate is not None and i >= 4:
            yield i, training.left.estimate, sum(seconds[i + 1 :])


def test_nothing_is_said_while_nothing_is_known():
    assert Training(*folds("cnn", 10)).left.estimate is None


def test_one_epoch_gives_a_range_and_two_a_time():
    training = Training(*folds("cnn", 10))
    assert training.epochs("cnn", 0, 60.0) == Estimate(49 * 30, 49 * 120)
    assert training.epochs("cnn", 0, 60.0, start=2) == exactly(48 * 60)


def test_after_a_first_epoch_on_an_idle_machine_the_time_does_not_grow_from_epoch_to_epoch():
    """As it was seen: it grew from 1 h 20 min to 3 h 40 min while epochs came at an even pace."""
    training = Training(*folds("cnn", 20))
    training.epochs("cnn", 0, 48.0)
    highs = [training.epochs("cnn", 0, 132.0, start=epoch).high for epoch in range(2, 21)]
    assert all(later < earlier for earlier, later in itertools.pairwise(highs))
    assert highs[0] == pytest.approx(98 * 132, rel=0.01)


@pytest.mark.parametrize("period", [4, 10, 20])
def test_under_a_load_that_comes_and_goes_the_estimate_is_near_the_truth(period):
    """A job of minutes beside other work that makes half of its epochs six times as slow.

    Looked at while the load has come and gone once, and will again: of its first time nobody can
    know. The latest epochs alone said 0.2 to 1.7 times the truth.
    """
    load = [1.0] * period + [6.0] * period
    for i, estimate, truth in under(lambda i: load[i % len(load)], 200):
        if 2 * period <= i < 200 - 2 * period:
            assert 0.6 * truth < estimate.high < 1.75 * truth
            assert estimate.low < 1.1 * truth


def test_a_burst_of_load_does_not_make_an_hour_of_minutes():
    """While other work took the machine, eight times the truth was shown."""
    for i, estimate, truth in under(lambda i: 8.0 if 30 <= i < 34 else 1.0, 150):
        if truth > 60:
            assert estimate.high < (2.5 if i >= 30 else 1.01) * truth


def test_random_load_is_estimated_by_its_mean():
    random.seed(0)
    errors = [
        estimate.high / truth
        for i, estimate, truth in under(lambda _: random.choice([1.0, 1.0, 4.0]), 300)
        if i > 40 and truth > 60 and estimate.low == estimate.high
    ]
    assert len(errors) > 50
    assert all(0.6 < error < 1.7 for error in errors)


def test_epochs_with_and_without_validation_in_turn_are_estimated_evenly():
    training = Training(*folds("cnn", 60, n=1))
    training.epochs("cnn", 0, *[10.0, 14.0] * 5)
    for epoch in range(11, 51):
        estimate = training.epochs("cnn", 0, 14.0 if epoch % 2 == 0 else 10.0, start=epoch)
        assert estimate.low == estimate.high == pytest.approx((60 - epoch) * 12, rel=0.03)


def test_frozen_epochs_say_nothing_of_those_that_follow():
    training = Training(*folds("cnn", 10, frozen_epochs=2))
    assert training.epochs("cnn", 0, 5.0, 5.0) == exactly(40, "cnn")
    assert training.epochs("cnn", 0, 50.0, 50.0, start=3) == exactly(38 * 50 + 8 * 5)


def test_a_training_of_the_same_network_is_as_fast_in_proportion_to_its_pixels():
    small, large = (
        {"network": "resnet18", "work": 1.0},
        {"network": "resnet18", "work": 4.0},
    )
    training = Training(
        *folds("small", 10, n=1, **small), *folds("large", 10, n=1, **large)
    )
    assert training.epochs("small", 0, *[6.0] * 10) == exactly(240)


def test_a_training_of_another_network_is_named_as_untimed():
    training = Training(
        *folds("cnn", 4, n=1, network="a"), *folds("vit", 4, n=1, network="b")
    )
    assert training.epochs("cnn", 0, 30.0, 30.0) == exactly(60, "vit")
    training.finish("cnn", 0)
    assert training.epochs("vit", 0, 100.0, 100.0) == exactly(200)


def test_what_follows_the_last_epoch_of_a_fold_counts_for_the_folds_to_come():
    training = Training(*folds("cnn", 2, n=3))
    training.epochs("cnn", 0, 10.0, 10.0)
    training.finish("cnn", 0, after=30.0)
    assert training.epochs("cnn", 1, 10.0) == exactly(10 + 30 + 20 + 30)


def test_a_fold_that_stops_early_and_a_training_that_fails_leave_nothing_to_wait_for():
    training = Training(*folds("cnn", 50, n=2), *folds("bad", 50, n=2))
    training.epochs("cnn", 0, *[6.0] * 10)
    training.finish("cnn", 0)
    training.left.failed("bad")
    assert training.left.estimate == exactly(300)
    assert training.left.done == 150


def test_folds_trained_at_once_share_the_time():
    training = Training(*folds("cnn", 10, n=4), at_once=4)
    for epoch in range(1, 4):
        training.now += 40.0
        for fold in range(4):
            training.left.epoch(Epoch("cnn", fold, epoch, 10, None, None, 40.0))
    assert training.left.estimate == exactly(280)


def test_the_first_of_several_processes_to_report_is_not_taken_for_the_only_one():
    """Four processes: the first epoch of the first made the estimate four times too long."""
    training = Training(*folds("cnn", 10, n=4), at_once=4)
    assert training.epochs("cnn", 0, 40.0, 40.0) == exactly(38 * 40 / 4)


def test_a_fold_whose_process_died_is_not_counted_as_being_at_work():
    training = Training(*folds("cnn", 100, n=2), at_once=2)
    training.epochs("cnn", 1, 10.0)
    assert training.epochs("cnn", 0, *[10.0] * 30) == exactly((70 + 99) * 10)


def test_a_fold_that_is_resumed_has_its_earlier_epochs_behind_it():
    training = Training(*folds("cnn", 10, n=1))
    assert training.epochs("cnn", 0, 10.0, 10.0, start=8) == exactly(10)
    assert training.left.done == 9


def test_an_epoch_that_was_not_planned_here_is_of_another_process():
    training = Training(*folds("cnn", 10, n=1))
    training.left.epoch(Epoch("other", 0, 1, 5, None, None, 3.0))
    assert training.left.estimate is None
