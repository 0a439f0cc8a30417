"""Calibration before and after a blend."""

from functools import cache

import numpy as np
import pytest

from ensembler.blending.calibration.calibrated import Calibrated, apply_vector, fit_vector
from ensembler.blending.calibration.class_biases import fit_class_biases
from ensembler.blending.registry import create_blend
from ensembler.blending.testing import BlendContract, invented_pool
from ensembler.metrics import score


class TestCalibrated(BlendContract):
    keeps_a_lone_member = False
    contains_members = False

    @pytest.fixture(params=["temperature", "vector"])
    def method(self, request):
        return Calibrated(create_blend("soft"), request.param, request.param)


def bent(seed=0):
    """Probabilities of which one class is always claimed too often."""
    stack, y = invented_pool(1, 900, 3, seed)
    probs = stack[0] * [3.0, 1.0, 0.4]
    return probs / probs.sum(axis=1, keepdims=True), y


def test_vector_scaling_takes_out_the_bias_of_a_class():
    probs, y = bent()
    after = apply_vector(probs, fit_vector(probs, y))
    assert score("log_loss", after, y) < score("log_loss", probs, y) - 0.05
    assert np.abs(after.mean(axis=0) - np.bincount(y) / len(y)).max() < 0.01


@pytest.mark.parametrize("rows", [1, 2, 5, 40])
def test_no_calibration_makes_the_fitted_rows_worse(rows):
    stack, y = invented_pool(2, 40, 3, seed=rows)
    probs, y = stack[0][:rows], y[:rows]
    assert (
        score("log_loss", apply_vector(probs, fit_vector(probs, y)), y)
        <= score("log_loss", probs, y) + 1e-9
    )


def test_members_are_calibrated_before_they_are_blended():
    probs, y = bent()
    stack = np.stack([probs, invented_pool(1, 900, 3, 0)[0][0]])
    plain = create_blend("soft").fit(stack, y).predict_proba(stack)
    fitted = (
        Calibrated(create_blend("soft"), "none", "vector")
        .fit(stack, y)
        .predict_proba(stack)
    )
    assert score("log_loss", fitted, y) < score("log_loss", plain, y)


@pytest.mark.parametrize(
    "estimator",
    [
        "gradient_boosting",
        "sklearn.ensemble:ExtraTreesClassifier",
        "sklearn.tree:DecisionTreeClassifier",
    ],
)
@pytest.mark.parametrize("after", ["temperature", "vector"])
def test_what_follows_a_rich_method_does_not_sharpen_what_it_knows_by_heart(
    estimator, after
):
    assert score_on_new_rows(estimator, after) < score_on_new_rows(estimator, "none") + 0.02


@cache
def score_on_new_rows(estimator, after):
    """The log loss of a stack's estimator, calibrated in one way, on rows it was not fitted on."""
    stack, y = invented_pool(3, 600, 3, seed=3)
    fit, new = np.arange(300), np.arange(300, 600)
    method = create_blend("stack", estimator=estimator)
    if after != "none":
        method = Calibrated(method, after)
    probs = method.fit(stack[:, fit], y[fit]).predict_proba(stack[:, new])
    return score("log_loss", probs, y[new])


def test_biases_after_a_method_that_knows_its_rows_by_heart_do_something():
    rng = np.random.default_rng(0)
    stack, y = invented_pool(5, 6000, 3, seed=1, strength=1.2)
    keep = np.flatnonzero((y != 2) | (rng.random(len(y)) < 0.1))  # one class is rare
    fit, new = keep[:700], keep[700:]
    plain = create_blend("stack", estimator="sklearn.ensemble:ExtraTreesClassifier")
    decided = Calibrated(
        create_blend("stack", estimator="sklearn.ensemble:ExtraTreesClassifier"),
        "biases",
        "none",
        "f1_macro",
    )
    f1 = [
        score("f1_macro", m.fit(stack[:, fit], y[fit]).predict_proba(stack[:, new]), y[new])
        for m in (plain, decided)
    ]
    assert np.ptp(decided.biases_) > 0.3
    assert f1[1] > f1[0] + 0.02


def test_a_linear_pool_on_many_rows_is_not_fitted_again():
    fits = []

    class Counted(type(create_blend("simplex"))):
        def fit(self, stack, y):
            fits.append(len(y))
            return super().fit(stack, y)

    Calibrated(Counted(), "temperature").fit(*invented_pool(4, 400))
    assert fits == [400]
    fits.clear()
    Calibrated(Counted(), "temperature").fit(*invented_pool(4, 60))
    assert fits == [60, *[48] * 5]


def test_groups_stay_whole_inside_a_calibration():
    stack, y = invented_pool(4, 300)
    part = np.arange(300) % 4
    seen = []

    class Noted(type(create_blend("loglinear"))):
        def fit(self, stack, y):
            seen.append(np.asarray(stack[0])[:, 0].tolist())
            return super().fit(stack, y)

    Calibrated(Noted(ridge=1e-2), "temperature").fit(stack, y, part=part)
    assert seen[1:] == [stack[0][part != p, 0].tolist() for p in range(4)]


@pytest.mark.parametrize(
    "metric",
    ["f1_macro", "balanced_accuracy", "accuracy", "quadratic_kappa", "unweighted_kappa"],
)
def test_a_class_without_a_row_is_not_decided_away(metric):
    stack, y = invented_pool(1, 900, 4)
    probs, seen = stack[0], y != 2
    biases = fit_class_biases(probs[seen], y[seen], metric)
    assert biases[2] == 0
    assert biases[[0, 1, 3]].mean() == pytest.approx(0, abs=1e-9)
    vector = fit_vector(probs[seen], y[seen])
    assert vector[:, 2].tolist() == [1, 0]
