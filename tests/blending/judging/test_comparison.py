import numpy as np
import pytest

from ensembler.blending.judging.comparison import compare_with_first, paired_gain
from ensembler.logits import softmax
from ensembler.metrics import score

CLASSES = 4


def predictions(y, strength, seed):
    noise = np.random.default_rng(seed).normal(size=(len(y), CLASSES))
    return softmax(noise + np.reshape(strength, (-1, 1)) * np.eye(CLASSES)[y])


@pytest.fixture
def y():
    return np.random.default_rng(0).integers(0, CLASSES, 400)


@pytest.mark.parametrize("metric", ["accuracy", "log_loss", "f1_macro"])
def test_the_difference_is_that_of_the_scores_and_positive_when_better(y, metric):
    stacks = [
        predictions(y, strength, seed)[None]
        for seed, strength in enumerate((1.0, 2.5, 0.2))
    ]
    better, worse = compare_with_first(metric, stacks, y)
    sign = -1 if metric == "log_loss" else 1
    expected = sign * (score(metric, stacks[1][0], y) - score(metric, stacks[0][0], y))
    assert better.value == pytest.approx(expected)
    assert (better.verdict, worse.verdict) == ("better", "worse")


def test_equal_predictions_differ_by_nothing(y):
    probs = predictions(y, 1.0, 0)[None]
    (found,) = compare_with_first("log_loss", [probs, probs], y)
    assert (found.value, found.low, found.high, found.verdict) == (0, 0, 0, "noise")


@pytest.mark.parametrize("metric", ["log_loss", "f1_macro"])
@pytest.mark.parametrize("strength", [0.2, 1.0, 2.5])
def test_a_gain_is_one_comparison_and_calls_the_same_differences_noise(y, metric, strength):
    first, second = predictions(y, 1.0, 0), predictions(y, strength, 1)
    groups = np.arange(len(y)) // 4
    (found,) = compare_with_first(metric, [first[None], second[None]], y, groups)
    gain = paired_gain(metric, second, "first", first, y, groups)
    assert gain.to_json() == {
        "over": "first",
        "metric": metric,
        "value": found.value,
        "low": found.low,
        "high": found.high,
        "standard_error": found.standard_error,
        "beyond_noise": found.verdict == "better",
    }
    assert (found.joint_low, found.joint_high) == (found.low, found.high)
    assert (
        found.to_json()["verdict"] == {0.2: "worse", 1.0: "noise", 2.5: "better"}[strength]
    )


def test_nothing_beside_the_first_is_no_comparison(y):
    assert compare_with_first("log_loss", [predictions(y, 1.0, 0)[None]], y) == []


def test_many_comparisons_hold_together_where_each_by_itself_would_cry_wolf(y):
    """Of 30 predictions as good as the first, one by itself often looks better or worse.

    Together hardly ever.
    """
    alone = together = 0
    for trial in range(20):
        stacks = [predictions(y, 1.0, 100 * trial + seed)[None] for seed in range(31)]
        found = compare_with_first("accuracy", stacks, y, seed=trial)
        assert all(d.joint_low <= d.low <= d.high <= d.joint_high for d in found)
        alone += any(d.low > 0 or d.high < 0 for d in found)
        together += any(d.verdict != "noise" for d in found)
    assert together <= 5 < alone


def test_whole_groups_are_drawn(y):
    groups = np.repeat(np.arange(40), 10)
    per_group = np.random.default_rng(1).normal(size=40)[groups]
    first, second = predictions(y, 1.0, 0), predictions(y, 1.0 + 0.5 * per_group, 0)
    by_row, by_group = (
        compare_with_first("log_loss", [first[None], second[None]], y, g)[0].standard_error
        for g in (None, groups)
    )
    assert by_group > 1.5 * by_row


@pytest.mark.parametrize("metric", ["log_loss", "f1_macro"])
def test_what_differs_between_seeds_widens_the_interval(y, metric):
    first = np.stack([predictions(y, s, i) for i, s in enumerate((0.8, 1.2, 1.6))])
    steady = np.stack([predictions(y, s, i) for i, s in enumerate((1.0, 1.4, 1.8))])
    shaky = np.stack([predictions(y, s, i) for i, s in enumerate((1.8, 1.4, 1.0))])
    of_steady, of_shaky = compare_with_first(metric, [first, steady, shaky], y)
    assert of_shaky.standard_error > 2 * of_steady.standard_error


def test_predictions_with_other_numbers_of_seeds_cannot_be_paired(y):
    probs = predictions(y, 1.0, 0)
    with pytest.raises(ValueError, match="seeds"):
        compare_with_first("accuracy", [np.stack([probs, probs]), probs[None]], y)
