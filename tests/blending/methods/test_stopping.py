import pytest

from ensembler.blending.methods.stopping import search, whole_searches
from ensembler.stop import Stop


def test_all_rounds_are_taken_and_that_is_no_early_stop():
    taken = []
    assert search(lambda i: taken.append(i) or True, 4, Stop()) is False
    assert taken == [0, 1, 2, 3]


def test_a_step_that_finds_nothing_more_ends_the_search():
    taken = []
    assert search(lambda i: taken.append(i) or i < 1, 4, Stop()) is False
    assert taken == [0, 1]


def test_out_of_time_the_first_round_is_taken_all_the_same():
    over = Stop(0.0)
    taken = []
    assert search(lambda i: taken.append(i) or True, 50, over) is True
    assert taken == [0]
    assert over.reason == "deadline"


def interrupted_in(round_of_it):
    def step(i):
        if i == round_of_it:
            raise KeyboardInterrupt
        return True

    return step


def test_ctrl_c_keeps_what_was_found_and_in_the_first_round_there_is_nothing():
    stop = Stop()
    assert search(interrupted_in(1), 5, stop) is True
    assert stop.reason == "interrupted"
    with pytest.raises(KeyboardInterrupt):
        search(interrupted_in(0), 5, Stop())


def test_where_searches_are_compared_none_that_was_cut_short_counts_as_whole():
    with whole_searches(), pytest.raises(KeyboardInterrupt):
        search(interrupted_in(3), 5, Stop())
    assert search(interrupted_in(3), 5, Stop()) is True
