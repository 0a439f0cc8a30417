"""Intervals hold the truth as often as they say, over few groups and few seeds too."""

import numpy as np
import pytest
from scipy import stats

from ensembler.blending.judging.comparison import compare_with_first, paired_gain
from ensembler.blending.judging.intervals import (
    Units,
    joint_quantile,
    of_draws,
    of_means,
    t_quantile,
)
from ensembler.metrics import row_losses, score


def with_losses(losses):
    right = np.exp(-losses)
    return np.stack([right, 1 - right], axis=-1)


def test_over_rows_the_error_is_the_plain_one():
    values = np.random.default_rng(0).normal(size=(2, 50))
    found = of_means(values, Units.of(50, None))
    assert np.allclose(found.errors, stats.sem(values, axis=1))
    assert found.freedom == pytest.approx(49)
    assert found.correlation[0, 1] == pytest.approx(np.corrcoef(values)[0, 1])


def test_over_groups_of_equal_size_it_is_that_of_their_means():
    values, groups = np.random.default_rng(0).normal(size=(1, 60)), np.arange(60) % 6
    means = [values[0, groups == g].mean() for g in range(6)]
    found = of_means(values, Units.of(60, groups))
    assert found.errors[0] == pytest.approx(stats.sem(means))
    assert found.freedom == pytest.approx(5)


def test_groups_of_unequal_size_leave_fewer_degrees_of_freedom():
    assert Units.of(112, np.repeat(np.arange(6), [100, 4, 2, 2, 2, 2])).freedom < 2


def test_a_bootstrap_agrees_with_the_formula():
    values, groups = (
        np.random.default_rng(0).normal(size=(2, 80)),
        np.repeat(np.arange(8), 10),
    )
    units = Units.of(80, groups)
    draws = np.array(
        [
            values[:, rows].mean(axis=1)
            for rows in units.drawn(np.random.default_rng(1), 4000)
        ]
    )
    by_draws, by_formula = of_draws(draws, units), of_means(values, units)
    assert np.allclose(by_draws.errors, by_formula.errors, rtol=0.05)
    assert np.allclose(by_draws.correlation, by_formula.correlation, atol=0.05)


def test_the_joint_quantile_is_wider_and_that_of_one_when_all_are_one():
    rng = np.random.default_rng(0)
    assert joint_quantile(np.eye(1), 7, rng) == pytest.approx(stats.t.ppf(0.975, 7))
    assert joint_quantile(np.ones((4, 4)), 7, rng) == pytest.approx(t_quantile(7), rel=0.05)
    bonferroni = stats.t.ppf(1 - 0.025 / 4, 7)
    assert t_quantile(7) * 1.15 < joint_quantile(np.eye(4), 7, rng) < bonferroni * 1.02


@pytest.mark.parametrize("k", [2, 3, 9])
def test_top_k_accuracy_is_a_mean_over_rows(k):
    rng = np.random.default_rng(0)
    probs, y = rng.dirichlet(np.ones(4), 200), rng.integers(0, 4, 200)
    assert 1 - row_losses(f"top_{k}_accuracy", probs, y).mean() == pytest.approx(
        score(f"top_{k}_accuracy", probs, y)
    )


def test_a_bootstrap_draws_whole_groups_and_as_many_as_it_is_told():
    groups = np.array([3, 1, 3, 2, 1, 3])
    units = Units.of(6, groups)
    for rows in units.drawn(np.random.default_rng(0), 20, 2):
        taken = [tuple(np.flatnonzero(groups == groups[row])) for row in rows]
        assert all(set(mates) <= set(rows.tolist()) for mates in taken)
    (counts,) = units.counts_drawn(np.random.default_rng(0), 1)
    (rows,) = units.drawn(np.random.default_rng(0), 1)
    assert (counts * units.sizes).sum() == len(rows)
    assert units.sums(np.arange(6.0)[None]).tolist() == [[5.0, 3.0, 7.0]]


def test_one_group_alone_says_nothing():
    y = np.zeros(40, np.int64)
    ours, theirs = (with_losses(np.full(40, loss)) for loss in (1.0, 2.0))
    for metric in ("log_loss", "f1_macro"):
        gain = paired_gain(metric, ours, "theirs", theirs, y, np.zeros(40, int))
        assert (gain.low, gain.high, gain.beyond_noise) == (-np.inf, np.inf, False)
        (difference,) = compare_with_first(
            metric, [theirs[None], ours[None]], y, np.zeros(40, int)
        )
        assert difference.verdict == "noise"


@pytest.mark.parametrize(("count", "sizes"), [(5, "equal"), (5, "unequal"), (12, "equal")])
def test_an_interval_over_few_groups_holds_the_truth_in_95_of_100_samples(count, sizes):
    rng = np.random.default_rng(count)
    held = 0
    for _ in range(600):
        of_each = (
            np.full(count, 20)
            if sizes == "equal"
            else np.maximum(2, rng.poisson(20, count) * np.arange(count))
        )
        groups = np.repeat(np.arange(count), of_each)
        losses = rng.normal(0, 0.14, count)[groups] + rng.normal(0, 0.2, len(groups))
        y = np.zeros(len(groups), np.int64)
        gain = paired_gain(
            "log_loss", with_losses(2 - losses), "other", with_losses(2 + losses), y, groups
        )
        held += gain.low <= 0 <= gain.high
    assert 0.925 <= held / 600 <= 0.975


@pytest.mark.parametrize("n_seeds", [2, 3])
@pytest.mark.parametrize("variants", [2, 5])
def test_an_interval_over_few_seeds_holds_the_truth_as_often_as_it_says(n_seeds, variants):
    rng = np.random.default_rng(n_seeds)
    alone = jointly = 0
    for seed in range(300):
        losses = rng.normal(3, 0.3, (variants, 1, 200)) + rng.normal(
            0, 0.1, (variants, n_seeds, 1)
        )
        losses += rng.normal(0, 0.3, (variants, n_seeds, 200))
        found = compare_with_first(
            "log_loss", list(with_losses(losses)), np.zeros(200, np.int64), seed=seed
        )
        alone += found[0].low <= 0 <= found[0].high
        jointly += all(d.joint_low <= 0 <= d.joint_high for d in found)
    assert alone / 300 >= 0.92
    assert jointly / 300 >= 0.92
