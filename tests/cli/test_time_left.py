"""The time left, on a clock of its own: even, loaded, early, parallel, untimed."""

import itertools
import re

import pytest

from ensembler.cli.time_left import TimeLeft
from ensembler.progress import Epoch, FoldJob


class Training:
    """Replays epochs; their seconds pass on the clock unless folds are trained at once."""

    def __init__(self, *jobs):
        self.now = 0.0
        self.left = TimeLeft(clock=lambda: self.now)
        self.jobs = {(job.member, job.fold): job for job in jobs}
        self.left.plan(jobs)

    def epochs(self, member, fold, *seconds, start=1):
        for i, took in enumerate(seconds, start=start):
            self.now += took
            self.left.epoch(
                Epoch(member, fold, i, self.jobs[member, fold].epochs, None, None, took)
            )
        return self.left.text

    def finish(self, member, fold, after=0.0):
        self.now += after
        self.left.fold_done(self.jobs[member, fold])


def folds(member, epochs, n=5, **options):
    return [FoldJob(member, fold, epochs, **options) for fold in range(n)]


def minutes(text):
    """The time in a text such as "1 h 5 min left"."""
    units = {"h": 60, "min": 1, "s": 1 / 60}
    return sum(int(number) * units[unit] for number, unit in re.findall(r"(\d+) (h|min|s)\b", text))


def test_nothing_is_said_while_nothing_is_known():
    assert Training(*folds("cnn", 10)).left.text == ""


def test_one_epoch_gives_a_range_and_two_a_time():
    training = Training(*folds("cnn", 10))
    assert training.epochs("cnn", 0, 60.0) == "24 min 30 s to 1 h 38 min left"
    assert training.epochs("cnn", 0, 60.0, start=2) == "48 min 0 s left"


def test_after_a_first_epoch_on_an_idle_machine_the_time_does_not_grow_from_epoch_to_epoch():
    """As it was seen: it grew from 1 h 20 min to 3 h 40 min while the epochs came at an even pace."""
    training = Training(*folds("cnn", 20))
    training.epochs("cnn", 0, 48.0)
    told = [minutes(training.epochs("cnn", 0, 132.0, start=epoch)) for epoch in range(2, 21)]
    assert all(later < earlier for earlier, later in itertools.pairwise(told))
    assert told[0] == pytest.approx(98 * 132 / 60, rel=0.01)


def test_a_load_that_comes_and_goes_is_forgotten_after_a_few_epochs():
    training = Training(*folds("cnn", 100, n=1))
    training.epochs("cnn", 0, *[10.0] * 20)
    assert training.epochs("cnn", 0, *[40.0] * 4, start=21) == "50 min 40 s left"
    assert training.epochs("cnn", 0, *[10.0] * 4, start=25) == "12 min 0 s left"


def test_epochs_with_and_without_validation_in_turn_are_told_evenly():
    training = Training(*folds("cnn", 60, n=1))
    training.epochs("cnn", 0, *[10.0, 14.0] * 5)
    for epoch in range(11, 51):
        told = minutes(training.epochs("cnn", 0, 14.0 if epoch % 2 == 0 else 10.0, start=epoch))
        assert told == pytest.approx((60 - epoch) * 12 / 60, rel=0.02)


def test_frozen_epochs_say_nothing_of_those_that_follow():
    training = Training(*folds("cnn", 10, frozen_epochs=2))
    assert training.epochs("cnn", 0, 5.0, 5.0) == "at least 40 s left (cnn not timed yet)"
    assert training.epochs("cnn", 0, 50.0, 50.0, start=3) == "32 min 20 s left"


def test_a_member_of_the_same_network_is_as_fast_in_proportion_to_its_pixels():
    small, large = {"network": "resnet18", "work": 1.0}, {"network": "resnet18", "work": 4.0}
    training = Training(*folds("small", 10, n=1, **small), *folds("large", 10, n=1, **large))
    assert training.epochs("small", 0, *[6.0] * 10) == "4 min 0 s left"


def test_a_member_of_another_network_is_said_to_be_untimed():
    training = Training(*folds("cnn", 4, n=1, network="a"), *folds("vit", 4, n=1, network="b"))
    assert training.epochs("cnn", 0, 30.0, 30.0) == "at least 1 min 0 s left (vit not timed yet)"
    training.finish("cnn", 0)
    assert training.epochs("vit", 0, 100.0, 100.0) == "3 min 20 s left"


def test_what_follows_the_last_epoch_of_a_fold_counts_for_the_folds_to_come():
    training = Training(*folds("cnn", 2, n=3))
    training.epochs("cnn", 0, 10.0, 10.0)
    training.finish("cnn", 0, after=30.0)
    training.epochs("cnn", 1, 10.0)
    assert training.left.text == f"{(10 + 30 + 20 + 30) // 60} min 30 s left"


def test_a_fold_that_stops_early_and_a_member_that_fails_leave_nothing_to_wait_for():
    training = Training(*folds("cnn", 50, n=2), *folds("bad", 50, n=2))
    training.epochs("cnn", 0, *[6.0] * 10)
    training.finish("cnn", 0)
    training.left.failed("bad")
    assert training.left.text == "5 min 0 s left"
    assert training.left.done == 150


def test_folds_trained_at_once_share_the_time():
    training = Training(*folds("cnn", 10, n=4))
    for epoch in range(1, 4):
        training.now += 40.0
        for fold in range(4):
            training.left.epoch(Epoch("cnn", fold, epoch, 10, None, None, 40.0))
    assert training.left.text == "4 min 40 s left"


def test_a_fold_whose_process_died_is_not_counted_as_being_at_work():
    training = Training(*folds("cnn", 100, n=2))
    training.epochs("cnn", 1, 10.0)
    assert training.epochs("cnn", 0, *[10.0] * 30) == f"{(70 + 99) * 10 // 60} min 10 s left"


def test_a_fold_that_is_resumed_has_its_earlier_epochs_behind_it():
    training = Training(*folds("cnn", 10, n=1))
    assert training.epochs("cnn", 0, 10.0, 10.0, start=8) == "10 s left"
    assert training.left.done == 9
