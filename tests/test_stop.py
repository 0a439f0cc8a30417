import os
import pickle
import signal
import time

import pytest

from ensembler.stop import Stop, Stopped, interrupt_on_sigterm


def test_nothing_asks_for_the_end_of_a_job_by_itself():
    stop = Stop()
    stop.check()
    assert (bool(stop), stop.reason, stop.seconds_left) == (False, None, None)


def test_when_its_seconds_are_over_a_job_should_end():
    now = [100.0]
    stop = Stop(5.0, clock=lambda: now[0])
    now[0] = 103.0
    assert (bool(stop), stop.seconds_left) == (False, 2.0)
    now[0] = 106.0
    assert (stop.reason, stop.seconds_left) == ("deadline", 0.0)
    with pytest.raises(Stopped, match="deadline"):
        stop.check()


def test_the_first_reason_stays():
    now = [0.0]
    stop = Stop(1.0, clock=lambda: now[0])
    stop.request("interrupted")
    now[0] = 2.0
    stop.request("pruned")
    assert stop.reason == "interrupted"


def test_sigterm_interrupts_as_ctrl_c_does():
    before = signal.getsignal(signal.SIGTERM)
    try:
        interrupt_on_sigterm()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)


def test_the_earliest_limit_counts_and_other_processes_share_it():
    stop = Stop()
    now = time.monotonic()
    stop.limit(now + 100.0)
    stop.limit(now + 50.0)
    other = pickle.loads(pickle.dumps(stop.for_other_process()))
    stop.request("interrupted")
    assert 40.0 < other.seconds_left <= 50.0
    assert not other.is_over
    assert other.reason is None
