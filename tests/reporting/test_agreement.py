"""How little a handful of submissions says of cross-validation and leaderboard."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from ensembler.reporting.agreement import ScorePair, agreement, rank_correlation


def pairs(ours, public):
    return [ScorePair(a, b) for a, b in zip(ours, public, strict=True)]


def test_the_rank_correlation_is_spearmans_with_ties():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 5, (2, 12)).astype(float)
    assert rank_correlation(a, b) == pytest.approx(spearmanr(a, b).statistic)
    assert rank_correlation(np.ones(3), np.arange(3.0)) is None


def test_three_submissions_in_the_same_order_say_nearly_nothing():
    found = agreement("accuracy", pairs([0.1, 0.2, 0.3], [0.5, 0.6, 0.7]))
    assert found.rank_correlation == pytest.approx(1)
    assert found.by_chance == pytest.approx(1 / 6)
    assert found.low < -0.7
    assert found.high == 1
    two = agreement("accuracy", pairs([0.1, 0.2], [0.5, 0.6]))
    assert (two.low, two.high) == (-1, 1)


def test_the_interval_narrows_with_more_submissions_and_holds_the_truth():
    rng = np.random.default_rng(1)
    true, inside, n_trials, widths = 0.7, 0, 60, []
    for _ in range(n_trials):
        x, noise = rng.standard_normal((2, 12))
        found = agreement("m", pairs(x, true * x + np.sqrt(1 - true**2) * noise))
        inside += found.low <= true <= found.high
        widths.append(found.high - found.low)
    assert inside >= 0.88 * n_trials
    x = np.arange(70.0)
    many = agreement("m", pairs(x, x + rng.normal(0, 15, 70)))
    assert many.high - many.low < np.mean(widths)


def test_differences_have_an_interval_from_two_on():
    one = agreement("m", [ScorePair(0.5, 0.6, 0.45, 0.55)])
    assert one.difference == pytest.approx(0.1)
    assert one.difference_low is None
    assert one.within == 0
    two = agreement("m", [ScorePair(0.5, 0.6, 0.4, 0.7), ScorePair(0.5, 0.5)])
    assert two.difference_low < two.difference < two.difference_high
    assert two.within == 1
    assert agreement("m", []) is None
