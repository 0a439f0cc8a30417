"""Blending of samples with several labels at once."""

import dataclasses

import numpy as np
import pytest

from ensembler.blending.calibration.label_thresholds import (
    cross_fitted_thresholds,
    fit_thresholds,
    move_to_half,
)
from ensembler.blending.diversity import diversity
from ensembler.blending.judging.automatic import candidates_for
from ensembler.blending.make import make_blend
from ensembler.blending.multi_label import yes_or_no
from ensembler.blending.pool import Pool
from ensembler.blending.spec import BlendSpec
from ensembler.errors import UnknownNameError
from ensembler.logits import sigmoid
from ensembler.metrics import score

SHARES = np.array([0.5, 0.3, 0.15, 0.06])


@pytest.fixture
def pool():
    rng = np.random.default_rng(0)
    y = (rng.random((400, 4)) < SHARES).astype(np.int64)
    test_y = (rng.random((100, 4)) < SHARES).astype(np.int64)

    def predict(truth, strength):
        return sigmoid(
            rng.normal(size=truth.shape)
            + strength * (2 * truth - 1)
            + np.log(SHARES / (1 - SHARES))
        )

    strengths = {"good": 1.2, "fair": 1.0, "poor": 0.1}
    oof = np.stack([predict(y, s) for s in strengths.values()]).astype(np.float32)
    test = tuple(
        np.stack([predict(test_y, s) for _ in range(2)]).astype(np.float32)
        for s in strengths.values()
    )
    return Pool(
        tuple(strengths),
        oof,
        y,
        ("a", "b", "c", "d"),
        np.arange(400) % 2,
        test=test,
        test_y=test_y,
    )


def test_a_soft_vote_is_the_mean_of_each_label(pool):
    blend = make_blend(pool, BlendSpec(method="soft"))
    assert blend.oof == pytest.approx(pool.oof.mean(axis=0), abs=1e-6)
    assert blend.test == pytest.approx(
        np.mean([t.mean(axis=0) for t in pool.test], axis=0), abs=1e-6
    )
    assert blend.scores["cross_fitted"]["log_loss"] == pytest.approx(
        score("log_loss", pool.oof.mean(axis=0), pool.y)
    )
    assert blend.scores["holdout"]["f1_macro"] == pytest.approx(
        score("f1_macro", blend.test, pool.test_y)
    )


@pytest.mark.parametrize(
    "method", ["auto", "simplex", "greedy", "stack", "loglinear", "geometric", "hill_climb"]
)
def test_every_method_takes_sets_of_labels_and_beats_the_best_member(pool, method):
    blend = make_blend(pool, BlendSpec(method=method))
    assert blend.oof.shape == (400, 4)
    assert blend.test.shape == (100, 4)
    best = min(score("log_loss", probs, pool.y) for probs in pool.oof)
    assert blend.scores["cross_fitted"]["log_loss"] < best + (
        0.2 if method == "geometric" else 0
    )
    assert blend.gain["over"] == "good"


def test_weights_know_the_good_member_from_the_poor_one(pool):
    weights = make_blend(pool, BlendSpec(method="simplex")).weights
    assert weights["good"] > weights["fair"] > weights["poor"]


def test_the_labels_of_a_row_are_one_group_and_are_left_out_together(pool):
    flat = yes_or_no(pool)
    assert flat.oof.shape == (3, 1600, 2)
    assert flat.groups.reshape(400, 4).tolist() == [[i] * 4 for i in range(400)]
    assert flat.oof[0, :, 1].reshape(400, 4) == pytest.approx(pool.oof[0])
    assert flat.y.reshape(400, 4).tolist() == pool.y.tolist()


def test_thresholds_are_searched_for_the_metric_and_cross_fitted(pool):
    plain = make_blend(pool, BlendSpec(method="soft", metric="f1_macro"))
    moved = make_blend(
        pool, BlendSpec(method="soft", metric="f1_macro", calibrate="biases")
    )
    assert moved.details.searched_by == "log_loss"
    assert set(moved.details.thresholds) == {"a", "b", "c", "d"}
    assert moved.scores["fitted"]["f1_macro"] > plain.scores["fitted"]["f1_macro"]
    assert moved.scores["fitted"]["f1_macro"] > moved.scores["cross_fitted"]["f1_macro"] > 0
    assert (
        moved.scores["cross_fitted"]["f1_macro"] > plain.scores["cross_fitted"]["f1_macro"]
    )
    assert moved.gain["metric"] == "f1_macro"


@pytest.mark.parametrize(
    "metric", ["f1_macro", "f1_micro", "f1_samples", "accuracy", "hamming_loss"]
)
def test_thresholds_never_make_the_metric_worse(pool, metric):
    probs, y = pool.oof[1], pool.y
    thresholds = fit_thresholds(probs, y, metric)
    before, after = (score(metric, p, y) for p in (probs, move_to_half(probs, thresholds)))
    assert after <= before if metric == "hamming_loss" else after >= before
    decided = (move_to_half(probs, thresholds) >= 0.5) == (probs >= thresholds)
    assert decided.all()


@pytest.mark.parametrize(
    "metric", ["f1_macro", "f1_micro", "f1_samples", "accuracy", "hamming_loss"]
)
def test_the_first_label_gets_the_best_threshold_there_is(metric):
    rng = np.random.default_rng(3)
    y = (rng.random((100, 3)) < (0.2, 0.5, 0.6)).astype(np.int64)
    probs = np.clip(0.3 * y + 0.5 * rng.random((100, 3)), 0, 1).round(2)  # with ties
    y[:, 1:] = 0  # labels that no row has stay as they are: one threshold is searched
    found = fit_thresholds(probs, y, metric)[0]
    sign = -1 if metric == "hamming_loss" else 1
    edges = np.unique(probs[:, 0])
    possible = [0.0, *(edges[1:] + edges[:-1]) / 2, 1.0]

    def value(threshold):
        return sign * score(
            metric,
            np.column_stack([probs[:, 0] >= threshold, probs[:, 1:]]).astype(float),
            y,
        )

    assert value(found) == pytest.approx(max(map(value, possible)))


def test_copies_of_a_member_gain_nothing_by_thresholds(pool):
    twins = dataclasses.replace(
        pool, names=("a", "b"), oof=pool.oof[[0, 0]], test=None, test_y=None
    )
    gain = make_blend(
        twins, BlendSpec(method="soft", metric="f1_macro", calibrate="biases")
    ).gain
    assert gain["value"] == pytest.approx(0, abs=1e-6)
    assert not gain["beyond_noise"]


def test_rows_of_one_sample_are_no_further_evidence(pool):
    few = dataclasses.replace(
        pool, oof=pool.oof[:, :12], y=pool.y[:12], folds=pool.folds[:12]
    )
    assert yes_or_no(few).n_samples == 12
    assert "few_rows" in {
        warning["code"] for warning in make_blend(few, BlendSpec(method="soft")).warnings
    }
    labels = {c.method for c in candidates_for(yes_or_no(few), "log_loss")}
    assert not {"loglinear", "stack"} & labels


def test_guards_judge_label_by_label(pool):
    shares = np.broadcast_to(pool.y.mean(axis=0), pool.y.shape).astype(np.float32)
    with_dull = dataclasses.replace(
        pool,
        names=(*pool.names, "dull"),
        oof=np.concatenate([pool.oof, shares[None]]),
        test=None,
        test_y=None,
    )
    found = make_blend(with_dull, BlendSpec(method="soft")).warnings
    assert [w["code"] for w in found if w["member"] == "dull"] == ["constant_member"]


def test_members_that_differ_in_one_label_alone_are_told_apart():
    rng = np.random.default_rng(0)
    y = (rng.random((2000, 10)) < 0.3).astype(np.int64)
    first = np.clip(rng.random((2000, 10)), 0.1, 0.9).astype(np.float32)
    second = first.copy()
    second[:, 7] = 1 - second[:, 7]
    pool = Pool(
        ("a", "b"), np.stack([first, second]), y, tuple("abcdefghij"), np.arange(2000) % 2
    )
    assert diversity(yes_or_no(pool)).disagreement[0, 1] == pytest.approx(0.1, abs=0.01)
    assert "pruned" not in {
        w["code"] for w in make_blend(pool, BlendSpec(method="soft", prune=0.02)).warnings
    }


def test_a_label_that_no_row_has_keeps_its_threshold():
    y = np.zeros((20, 2), np.int64)
    y[:5, 0] = 1
    assert fit_thresholds(np.random.default_rng(0).random((20, 2)), y, "f1_macro")[1] == 0.5


def test_a_metric_of_one_label_is_refused(pool):
    with pytest.raises(UnknownNameError, match="several labels at once"):
        make_blend(pool, BlendSpec(method="soft", metric="quadratic_kappa"))


def test_equal_seeds_give_equal_blends(pool):
    few = dataclasses.replace(
        pool, oof=pool.oof[:, :120], y=pool.y[:120], folds=pool.folds[:120]
    )
    spec = BlendSpec(method="auto", metric="f1_samples", calibrate="biases")
    first, second = (make_blend(few, spec) for _ in "ab")
    assert np.array_equal(first.oof, second.oof)
    assert first.scores == second.scores


def test_a_label_that_just_ten_rows_have_gets_a_threshold_in_every_part():
    y = np.zeros((100, 1), int)
    y[:10] = 1
    probs = np.where(y == 1, 0.3, 0.1)
    moved = cross_fitted_thresholds(probs, y, "f1_macro", np.arange(100) % 5)
    assert ((moved >= 0.5) == (y == 1)).all()
    without = cross_fitted_thresholds(probs[1:], y[1:], "f1_macro", np.arange(99) % 5)
    assert (without < 0.5).all()


def test_thresholds_are_found_on_rows_that_the_blend_does_not_know_by_heart():
    """On its own rows a forest is always right, and any threshold would do."""
    rng = np.random.default_rng(0)
    y = (rng.random((200, 2)) < 0.2).astype(int)
    stack = sigmoid(rng.normal(-1.4, 1, (3, 200, 2)) + 1.2 * y).astype(np.float32)
    pool = Pool(("a", "b", "c"), stack, y, ("x", "y"), np.arange(200) % 5)
    spec = BlendSpec(
        method="stack",
        options={"estimator": "sklearn.ensemble:ExtraTreesClassifier"},
        metric="f1_macro",
        calibrate="biases",
    )
    found = make_blend(pool, spec)
    assert max(found.details.thresholds.values()) < 0.45
