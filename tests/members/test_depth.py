"""Breadth or depth, with candidates whose seconds are made up."""

import pytest

from ensembler.members.depth import Candidate, choose_depth, target_epochs


def candidate(name, target=20, epoch=1.0, around=5.0, folds=3):
    return Candidate(name, target, epoch, around, folds)


ONE = 3 * (20 + 5)  # seconds of all folds with all epochs


def test_with_time_for_all_every_member_gets_all_its_epochs():
    found = choose_depth([candidate("a"), candidate("b")], 10 * ONE)
    assert found == {"a": 20, "b": 20}


def test_rather_fewer_members_than_unfinished_ones():
    many = [candidate(name) for name in "abcdef"]
    assert choose_depth(many, ONE) == {"a": 20}
    assert choose_depth(many, 2 * ONE) == {"a": 20, "b": 20}
    # with less than the whole being enough there would be more of them
    assert choose_depth(many, 2 * ONE, enough=0.5) == {"a": 11, "b": 11, "c": 11}


def test_what_is_left_goes_to_folds_with_their_whole_target():
    many = [candidate("a"), candidate("b"), candidate("c", target=100), candidate("d")]
    assert choose_depth(many, ONE + 24) == {"a": 20}
    assert choose_depth(many, ONE + 60) == {"a": 20, "b": 20, "d": 20}


def test_rather_fewer_folds_than_an_unfinished_member():
    # three folds would get 12 epochs each
    assert choose_depth([candidate("a")], 52) == {"a": 20}


def test_whatever_one_fold_can_get_where_there_is_time_for_no_more():
    assert choose_depth([candidate("a")], 24) == {"a": 19}
    assert choose_depth([candidate("a")], 9) == {"a": 4}
    assert choose_depth([candidate("a")], 0) == {"a": 1}


def test_large_members_get_as_large_a_share_of_their_own_target():
    members = [candidate("a", target=10), candidate("b", target=40)]
    found = choose_depth(members, 120.0, enough=0.5)
    assert found["b"] == pytest.approx(4 * found["a"], abs=4)


def test_a_fold_gets_no_more_than_there_is_time_for_where_several_run_at_once():
    # three processes with 15 s each
    assert choose_depth([candidate("a")], 3 * 15, longest=15) == {"a": 10}
    many = [candidate("a"), candidate("b", target=100)]
    assert choose_depth(many, 8 * 60, longest=60) == {"a": 20}


def test_nothing_to_choose():
    assert choose_depth([], 100.0) == {}


def test_a_network_is_finished_after_so_many_steps():
    assert target_epochs(35, pretrained=False) == 43
    assert target_epochs(1, pretrained=False) == 100
    assert target_epochs(10_000, pretrained=False) == 10
    assert target_epochs(35, pretrained=True) == 9
    assert target_epochs(10_000, pretrained=True) == 3
