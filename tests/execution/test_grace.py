from ensembler.execution.grace import Grace
from ensembler.stop import Stop


def test_others_are_waited_for_during_half_of_what_is_kept_back():
    now = 0.0
    stop = Stop(10.0, clock=lambda: now)
    stop.kept_back = 20.0
    grace = Grace(stop, lambda: now)
    seen = []
    for now in (9.0, 10.0, 19.0, 20.5):  # noqa: B007 the clock
        seen.append(grace.is_over)
    assert seen == [False, False, False, True]


def test_an_interrupted_job_waits_for_the_epoch_at_hand():
    stop = Stop()
    stop.request("interrupted")
    assert not Grace(stop, lambda: 1e9).is_over
