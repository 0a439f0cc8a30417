import numpy as np
import pytest

from ensembler.blending.judging.shares import share_intervals, share_intervals_of_groups


def coverage(shares, truth):
    return ((shares.low <= truth) & (truth <= shares.high)).mean()


@pytest.mark.parametrize(("n", "truth"), [(30, 0.1), (100, 0.9), (500, 0.5)])
def test_intervals_of_independent_rows_hold_the_truth_as_often_as_they_say(n, truth):
    hits = np.random.default_rng(0).binomial(n, truth, 4000).astype(float)
    assert 0.925 < coverage(share_intervals(hits, np.full(4000, float(n))), truth) < 0.98


@pytest.mark.parametrize(("groups", "rows", "truth"), [(10, 10, 0.5), (40, 20, 0.9)])
def test_intervals_of_groups_do_too_where_those_of_rows_are_far_too_narrow(
    groups, rows, truth
):
    rng = np.random.default_rng(0)
    of_group = rng.beta(truth * 2, (1 - truth) * 2, (groups, 1000))
    trials = rng.poisson(rows, (groups, 1000))
    hits = rng.binomial(trials, of_group).astype(float)
    trials = trials.astype(float)
    assert 0.92 < coverage(share_intervals_of_groups(hits, trials), truth) < 0.98
    assert coverage(share_intervals(hits.sum(0), trials.sum(0)), truth) < 0.8


def test_nothing_to_count_is_no_share_and_one_group_tells_nothing_of_others():
    shares = share_intervals(np.zeros(2), np.array([0.0, 4.0]))
    assert np.isnan(shares.value[0])
    assert np.isnan([shares.low[0], shares.high[0]]).all()
    assert shares.low[1] == 0 < shares.high[1] < 0.6
    alone = share_intervals_of_groups(np.array([[3.0]]), np.array([[5.0]]))
    assert (alone.value, alone.low, alone.high) == (0.6, 0, 1)


def test_groups_of_one_row_are_nearly_rows():
    hits = (np.random.default_rng(0).random((2000, 1)) < 0.7).astype(float)
    trials = np.ones_like(hits)
    grouped = share_intervals_of_groups(hits, trials)
    alone = share_intervals(hits.sum(0), trials.sum(0))
    np.testing.assert_allclose(grouped.low, alone.low, atol=1e-3)
    np.testing.assert_allclose(grouped.high, alone.high, atol=1e-3)
