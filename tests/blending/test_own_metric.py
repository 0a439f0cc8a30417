"""A metric of one's own is optimised as ours are: by searches, biases, thresholds and intervals."""

import sys

import numpy as np
import pytest

from ensembler.blending.calibration.class_biases import apply_class_biases, fit_class_biases
from ensembler.blending.calibration.label_thresholds import fit_thresholds, move_to_half
from ensembler.blending.make import make_blend
from ensembler.blending.methods.greedy import GreedySelection
from ensembler.blending.methods.hill_climbing import HillClimbing
from ensembler.blending.pool import Pool
from ensembler.blending.spec import BlendSpec
from ensembler.blending.testing import invented_pool
from ensembler.errors import RequestError
from ensembler.metrics import score

CODE = """
from ensembler.metrics import Metric, score

def f1(probs, y):
    return score("f1_macro", probs, y)

def wrong(probs, y):
    return 1 - score("f1_macro", probs, y)
wrong.greater_is_better = False

SHARP = Metric("sharp", lambda probs, y: float(probs.max()), looks_at="probabilities")
"""


@pytest.fixture(scope="module")
def mine(tmp_path_factory):
    folder = tmp_path_factory.mktemp("metrics")
    (folder / "own_metrics_b.py").write_text(CODE)
    sys.path.append(str(folder))
    yield "own_metrics_b"
    sys.path.remove(str(folder))
    sys.modules.pop("own_metrics_b", None)


@pytest.mark.parametrize("method", [GreedySelection, HillClimbing])
@pytest.mark.parametrize("name", ["f1", "wrong"])
def test_searches_find_the_weights_that_they_find_for_the_same_metric_of_ours(
    mine, method, name
):
    stack, y = invented_pool(4, 120, 3)
    stack = stack.astype(np.float64)
    ours = method(metric="f1_macro").fit(stack, y)
    theirs = method(metric=f"{mine}:{name}").fit(stack, y)
    np.testing.assert_allclose(theirs.weights_, ours.weights_)


@pytest.mark.parametrize("name", ["f1", "wrong"])
def test_biases_are_as_good_as_those_for_the_same_metric_of_ours(mine, name):
    stack, y = invented_pool(1, 200, 3)
    probs = apply_class_biases(stack[0], np.array([1.5, 0.0, -1.5]))
    found = apply_class_biases(probs, fit_class_biases(probs, y, f"{mine}:{name}"))
    best = apply_class_biases(probs, fit_class_biases(probs, y, "f1_macro"))
    before = score("f1_macro", probs, y)
    assert score("f1_macro", found, y) > before + 0.9 * (
        score("f1_macro", best, y) - before
    )


@pytest.mark.parametrize("name", ["f1", "wrong"])
def test_thresholds_are_nearly_those_for_the_same_metric_of_ours(mine, name):
    rng = np.random.default_rng(0)
    y = (rng.random((300, 3)) < (0.1, 0.3, 0.5)).astype(np.int64)
    probs = np.clip(0.25 * y + 0.4 * rng.random((300, 3)), 0, 1)
    found = move_to_half(probs, fit_thresholds(probs, y, f"{mine}:{name}"))
    best = move_to_half(probs, fit_thresholds(probs, y, "f1_macro"))
    before = score("f1_macro", probs, y)
    gain = score("f1_macro", best, y) - before
    assert gain > 0.1
    assert score("f1_macro", found, y) > before + 0.9 * gain


def test_a_metric_that_does_not_look_at_decisions_moves_none(mine):
    stack, y = invented_pool(1, 60, 3)
    with pytest.raises(
        RequestError, match=r"biases move decisions, which metric .*SHARP.* not"
    ):
        fit_class_biases(stack[0], y, f"{mine}:SHARP")
    with pytest.raises(RequestError, match="thresholds move decisions"):
        fit_thresholds(stack[0], np.eye(3, dtype=int)[y], f"{mine}:SHARP")


@pytest.mark.parametrize("method", ["auto", "greedy", "single"])
def test_a_blend_is_chosen_and_scored_by_it(mine, few_families, method):
    stack, y = invented_pool(3, 150, 3)
    pool = Pool(("a", "b", "c"), stack, y, ("x", "y", "z"), np.arange(150) % 5)
    blend = make_blend(
        pool, BlendSpec(method=method, metric=f"{mine}:wrong", calibrate="biases")
    )
    assert f"{mine}:wrong" in blend.scores["cross_fitted"]
    assert blend.gain["metric"] == f"{mine}:wrong"
    value = score("f1_macro", blend.oof, y)
    correction = blend.details.correction or 0.0
    expected = 1 - value + correction
    assert blend.scores["cross_fitted"][f"{mine}:wrong"] == pytest.approx(
        expected, abs=1e-5
    )
