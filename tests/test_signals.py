"""Ctrl-C and SIGTERM as an early deadline, sent to this process."""

import os
import pickle
import signal
import time

import pytest

from ensembler.signals import GRACE, SignalStop
from ensembler.stop import InterruptedNow


@pytest.fixture
def stop():
    said = []
    found = SignalStop(said.append)
    found.said = said
    before = signal.getsignal(signal.SIGINT)
    with found.released():
        yield found
    assert signal.getsignal(signal.SIGINT) is before
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0


def send(number):
    os.kill(os.getpid(), number)
    time.sleep(0.01)


def test_ctrl_c_sets_the_signal_and_the_second_one_ends_at_once(stop):
    with stop.heard():
        send(signal.SIGINT)
        assert stop.reason == "interrupted"
        assert stop.seconds_left is None
        with pytest.raises(InterruptedNow):
            send(signal.SIGINT)
    with pytest.raises(InterruptedNow):
        send(signal.SIGINT)
    assert len(stop.said) == 1


def test_another_process_gets_its_limits_without_its_handlers(stop):
    stop.limit(time.monotonic() + 60.0)
    other = pickle.loads(pickle.dumps(stop.for_other_process()))
    assert 50.0 < other.seconds_left <= 60.0


def test_outside_of_steps_that_end_by_themselves_ctrl_c_interrupts(stop):
    with stop.heard():
        pass
    with pytest.raises(KeyboardInterrupt):
        send(signal.SIGINT)
    assert stop.reason is None


def test_sigterm_leaves_time_for_the_end_of_the_job_and_no_more(stop):
    stop.kept_back = 4.0
    with stop.heard():
        send(signal.SIGTERM)
        assert stop.reason == "interrupted"
        assert GRACE - 10.0 < stop.seconds_left <= GRACE - 9.0
        assert 0 < signal.getitimer(signal.ITIMER_REAL)[0] < GRACE


def test_when_that_time_is_over_the_job_ends_at_once(stop):
    with stop.heard():
        send(signal.SIGTERM)
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(InterruptedNow):
            time.sleep(5)
