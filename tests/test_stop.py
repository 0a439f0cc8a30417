import os
import signal

import pytest

from ensembler.stop import Stop, Stopped, interrupt_on_sigterm


def test_a_stop_is_not_wanted_until_somebody_asks_and_the_first_reason_stays():
    stop = Stop()
    assert not stop
    stop.check()
    stop.request("interrupted")
    stop.request("pruned")
    assert stop
    assert stop.reason == "interrupted"
    with pytest.raises(Stopped, match="interrupted"):
        stop.check()


def test_time_that_is_over_is_a_deadline():
    now = [100.0]
    stop = Stop(30.0, clock=lambda: now[0])
    assert stop.seconds_left == 30.0
    now[0] = 129.0
    assert not stop
    now[0] = 131.0
    assert stop.reason == "deadline"
    assert stop.seconds_left == 0.0


def test_a_stop_asked_for_before_its_deadline_keeps_its_reason():
    now = [0.0]
    stop = Stop(1.0, clock=lambda: now[0])
    stop.request("pruned")
    now[0] = 2.0
    assert stop.reason == "pruned"


def test_without_a_limit_there_is_no_time_left_to_speak_of():
    assert Stop().seconds_left is None


def test_sigterm_interrupts_as_ctrl_c_does():
    before = signal.getsignal(signal.SIGTERM)
    try:
        interrupt_on_sigterm()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
