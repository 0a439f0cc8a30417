import numpy as np
import pytest
from pydantic import ValidationError

from ensembler.blending.calibration.calibrated import Calibrated
from ensembler.blending.calibration.class_biases import apply_class_biases, fit_class_biases
from ensembler.blending.make import make_blend
from ensembler.blending.pool import Pool
from ensembler.blending.registry import create_blend
from ensembler.blending.spec import BlendSpec
from ensembler.blending.testing import BlendContract
from ensembler.metrics import score


class TestWithBiases(BlendContract):
    keeps_a_lone_member = False
    contains_members = False

    @pytest.fixture
    def method(self):
        return Calibrated(create_blend("soft"), "biases", metric="f1_macro")


def unbalanced(n=3000, seed=0):
    """Calibrated probabilities of a rare class that the plain decision hardly ever takes."""
    rng = np.random.default_rng(seed)
    y = rng.choice(3, n, p=[0.8, 0.15, 0.05])
    logits = rng.normal(0, 1, (n, 3)) + 1.2 * np.eye(3)[y] + np.log([0.8, 0.15, 0.05])
    probs = np.exp(logits)
    return probs / probs.sum(axis=1, keepdims=True), y


@pytest.mark.parametrize(
    "metric",
    ["f1_macro", "balanced_accuracy", "accuracy", "quadratic_kappa", "unweighted_kappa"],
)
def test_biases_never_make_the_metric_worse_on_fitted_rows(metric):
    for seed in range(5):
        probs, y = unbalanced(200, seed)
        after = apply_class_biases(probs, fit_class_biases(probs, y, metric))
        assert score(metric, after, y) >= score(metric, probs, y) - 1e-9
        np.testing.assert_allclose(after.sum(axis=1), 1)


def test_one_bias_is_as_good_as_trying_every_one():
    probs, y = unbalanced(150, 3)
    two = probs[:, :2] / probs[:, :2].sum(axis=1, keepdims=True)
    y = np.minimum(y, 1)
    found = score(
        "f1_macro", apply_class_biases(two, fit_class_biases(two, y, "f1_macro")), y
    )
    tried = [score("f1_macro", two * np.exp([0, b]), y) for b in np.linspace(-6, 6, 4001)]
    assert found >= max(tried) - 1e-9


def test_biases_gain_on_rows_that_they_were_not_fitted_on():
    probs, y = unbalanced(6000, 1)
    pool = Pool(("a",), probs[None], y, ("x", "y", "z"), np.arange(6000) % 5)
    plain = make_blend(pool, BlendSpec(method="soft", metric="f1_macro"))
    moved = make_blend(
        pool, BlendSpec(method="soft", metric="f1_macro", calibrate="biases")
    )
    before, after = (r.scores["cross_fitted"]["f1_macro"] for r in (plain, moved))
    assert after > before + 0.05
    assert len(moved.details.class_biases) == 3
    assert abs(after - moved.scores["fitted"]["f1_macro"]) < 0.02


def test_auto_takes_biases_too(few_families):
    probs, y = unbalanced(1500, 2)
    other = unbalanced(1500, 2)[0] ** 0.7
    pool = Pool(
        ("a", "b"),
        np.stack([probs, other / other.sum(1, keepdims=True)]),
        y,
        tuple("xyz"),
        np.arange(1500) % 5,
    )
    result = make_blend(pool, BlendSpec(metric="balanced_accuracy", calibrate="biases"))
    assert set(result.details.candidates) == {"simplex + biases", "soft + biases"}
    assert result.details.chosen.endswith("+ biases")


def test_biases_need_a_metric_of_decisions():
    with pytest.raises(
        ValidationError,
        match="metric should be one of accuracy, balanced_accuracy, f1_macro",
    ):
        BlendSpec(calibrate="biases")
