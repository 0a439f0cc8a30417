"""Choosing among candidates: the rule, and what it flatters the chosen one by."""

import numpy as np
import pytest

from ensembler.blending import Pool, make_blend
from ensembler.blending.judging.choosing import Contest
from ensembler.blending.judging.comparison import Gain
from ensembler.blending.spec import BlendSpec
from ensembler.blending.testing import invented_pool
from ensembler.metrics import score

N_CANDIDATES = 8


def equal_candidates(rows, rng, shared=0.8):
    """Decisions of candidates that are equally good and err mostly together: choosing one can only be luck."""
    y = rng.integers(0, 2, rows)
    common = rng.random(rows) < 0.3
    wrong = [
        np.where(rng.random(rows) < shared, common, rng.random(rows) < 0.3)
        for _ in range(N_CANDIDATES)
    ]
    return [np.eye(2)[np.where(w, 1 - y, y)] * 0.8 + 0.1 for w in wrong], y


@pytest.mark.parametrize("metric", ["accuracy", "f1_macro"])
def test_the_correction_is_what_choosing_flatters_by(metric):
    """All candidates score 0.7 in truth; the rule out of bag, as it was, took twice as much off."""
    rng = np.random.default_rng(0)
    too_good, taken_off = [], []
    for _ in range(60):
        predictions, y = equal_candidates(100, rng)
        contest = Contest.of(metric, predictions, y, None, seed=0)
        chosen = contest.first_near_best(0.5)
        too_good.append(score(metric, predictions[chosen], y) - 0.7)
        taken_off.append(contest.optimism(0.5))
    assert 0.01 < np.mean(taken_off) < 0.05
    assert np.mean(too_good) - np.mean(taken_off) == pytest.approx(0, abs=0.015)


@pytest.mark.parametrize(
    "metric",
    ["f1_macro", "balanced_accuracy", "roc_auc_ovr", "quadratic_kappa", "top_3_accuracy"],
)
def test_metrics_that_are_no_mean_have_the_noise_rule_and_a_correction(metric):
    rng = np.random.default_rng(1)
    stack, y = invented_pool(1, 80, 4, seed=1)
    blurred = [
        np.clip(stack[0] + rng.normal(0, 0.2, stack[0].shape), 1e-3, 1) for _ in range(7)
    ]
    contest = Contest.of(metric, blurred, y, None, seed=0)
    assert contest.errors[np.triu_indices(7, 1)].min() > 0
    assert contest.optimism(0.5) > 0
    assert contest.first_near_best(100.0) == 0
    assert contest.first_near_best(0.0) == int(contest.losses.argmin())


def test_a_choice_that_is_always_the_first_flatters_nothing():
    stack, y = invented_pool(4, 200, 3)
    assert Contest.of("log_loss", list(stack), y, None, seed=0).optimism(1e9) < 0.01


def test_few_groups_are_drawn_whole_and_the_correction_stays_a_small_part_of_the_noise():
    rng = np.random.default_rng(0)
    predictions, y = equal_candidates(200, rng)
    groups = np.arange(200) // 20
    one = Contest.of("accuracy", predictions, y, groups, seed=0)
    assert one.drawn.std(axis=0).min() > 0.01
    assert one.optimism(2.0) < 0.05


@pytest.mark.parametrize("metric", ["log_loss", "f1_macro"])
def test_score_gain_and_best_member_add_up(metric):
    rows = 95  # too few for a stack to be compared, whose fits take long
    stack, y = invented_pool(5, rows, 3, seed=2, strength=0.8)
    result = make_blend(
        Pool(tuple("abcde"), stack, y, ("x", "y", "z"), np.arange(rows) % 5),
        BlendSpec(metric=metric),
    )
    sign = 1 if metric == "f1_macro" else -1
    best = next(m.solo for m in result.details.members if m.member == result.gain["over"])
    gain = sign * (result.scores["cross_fitted"][metric] - best)
    assert result.gain["value"] == pytest.approx(gain, abs=1e-6)


def test_what_is_taken_off_for_choosing_makes_no_equal_prediction_worse_beyond_noise():
    ends = {"low": -0.0004, "high": 0.0008, "joint_low": -0.0004, "joint_high": 0.0008}
    same = Gain("log_loss", 0.0002, 0.0003, **ends, over="greedy").less(0.018)
    assert same.value == pytest.approx(-0.0178)
    assert same.low < 0 < same.high
    assert not same.beyond_noise
