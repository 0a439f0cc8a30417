"""When a fold ends before its last epoch, by a clock that is moved by hand."""

import pytest

from ensembler.members.fold_stop import FoldOverruns, FoldStop, WatchedProgress
from ensembler.progress import Epoch, RecordedProgress
from ensembler.stop import Stop, Stopped


class Fold:
    """A fold of ten epochs under a job that has `left` seconds for training."""

    def __init__(self, left, *, is_needed=False, after=5.0):
        self.now = 0.0
        clock = lambda: self.now  # noqa: E731 the clock of both
        self.job = Stop(left, clock=clock) if left is not None else Stop()
        self.stop = FoldStop(self.job, after, lambda: is_needed)

    def epochs(self, *seconds, begin=1):
        """Epochs that take so long; the first after which the fold does not go on, and why."""
        for n, each in enumerate(seconds, start=begin):
            self.now += each
            self.stop.epoch(Epoch("cnn", 0, n, 10, None, None, each))
            if self.stop.takes_network:
                return n, "network"
            try:
                self.stop.check()
            except FoldOverruns:
                return n, "overruns"
            except Stopped:
                return n, "stopped"
        return None


def test_without_a_limit_all_epochs_are_trained():
    assert Fold(None).epochs(*[100.0] * 10) is None


def test_a_fold_that_ends_in_time_is_left_alone():
    assert Fold(105.0).epochs(*[10.0] * 10) is None


def test_a_fold_that_would_overrun_is_given_up_as_soon_as_that_is_seen():
    assert Fold(60.0).epochs(*[10.0] * 10) == (1, "overruns")
    assert Fold(105.0).epochs(10, 10, 10, 30, 30, 30) == (4, "overruns")


def test_the_only_network_there_is_is_taken_at_the_last_epoch_that_ends_in_time():
    # 60 seconds less 5 for predicting: five epochs, for a sixth would end at 60
    assert Fold(60.0, is_needed=True).epochs(*[10.0] * 10) == (5, "network")


def test_the_last_epoch_is_predicted_with_whatever_the_time():
    assert Fold(10.0, is_needed=True, after=0.0).epochs(50.0, begin=10) is None
    fold = Fold(1000.0)
    fold.job.request("interrupted")
    assert fold.epochs(50.0, begin=10) is None


def test_an_interrupted_job_ends_after_the_epoch():
    fold = Fold(None)
    fold.job.request("interrupted")
    assert fold.epochs(1.0, 1.0) == (1, "stopped")
    needed = Fold(None, is_needed=True)
    needed.job.request("interrupted")
    assert needed.epochs(1.0, 1.0) == (1, "network")


def test_it_is_the_signal_of_the_job():
    fold = Fold(30.0)
    assert fold.stop.seconds_left == 30.0
    assert not fold.stop
    fold.stop.request("interrupted")
    assert fold.job.reason == fold.stop.reason == "interrupted"
    with pytest.raises(Stopped):
        fold.job.check()


def test_progress_tells_the_signal_of_every_epoch_and_shows_it():
    fold, shown = Fold(14.0, is_needed=True), RecordedProgress()
    progress = WatchedProgress(shown, "cnn fold 0", fold.stop)
    fold.now = 7.0
    progress.epoch(Epoch("cnn", 0, 1, 10, None, None, 7.0))
    assert fold.stop.takes_network
    assert [epoch.epoch for epoch in shown.epochs] == [1]
