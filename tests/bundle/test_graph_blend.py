"""What a graph computes of a fitted blend is what the blend computes by numpy."""

import numpy as np
import pytest
import torch

from ensembler.blending.candidate import Candidate
from ensembler.blending.fitted import FittedBlend
from ensembler.bundle import graph_blend
from ensembler.bundle.graph_blend import blended, check_formula, mean_of_parts, merged_views
from ensembler.errors import RequestError
from ensembler.logits import softmax
from ensembler.predictions.merging import merge_views
from ensembler.targets.composition import Composition
from ensembler.targets.kinds import MULTI_LABEL, SINGLE_LABEL

RNG = np.random.default_rng(3)
ROWS, CLASSES, MEMBERS, FOLDS = 60, 4, 3, 2
Y = np.arange(ROWS) % CLASSES
NAMES = tuple("abc")


def probs_of(*shape):
    return softmax(2 * RNG.normal(size=shape)).astype(np.float32)


STACK = probs_of(MEMBERS, ROWS, CLASSES)
STACK[:, np.arange(ROWS), Y] += 0.5
STACK /= STACK.sum(axis=2, keepdims=True)
TESTS = [probs_of(FOLDS, 9, CLASSES) for _ in NAMES]
METHODS = {
    "soft": {},
    "weights": {"weights": [2.0, 0.0, 1.0]},
    "single": {},
    "greedy": {"rounds": 5},
    "simplex": {},
    "hill_climb": {"negative": True},
    "geometric": {},
    "power": {"power": 2.0},
    "median": {},
    "trimmed_mean": {"share": 0.34},
    "loglinear": {"ridge": 0.01},
    "stack": {"ridge": 0.01, "shrinkage": 30.0, "probabilities": True},
}


def fitted_blend(method, options, *, by_fold=True, labels=None, thresholds=None, **around):
    candidate = Candidate(method, options, **around)
    stack, y = (STACK, Y)
    if labels is not None:
        yes = RNG.uniform(size=(MEMBERS, ROWS * labels)).astype(np.float32)
        stack, y = np.stack([1 - yes, yes], axis=2), RNG.integers(0, 2, ROWS * labels)
    fitted = candidate.make().fit(stack, y)
    return FittedBlend(NAMES, candidate, fitted, by_fold, labels, thresholds)


def in_graph(fitted, tests):
    given = [torch.from_numpy(test) for test in tests]
    return blended(fitted, given, len({len(test) for test in tests}) == 1).numpy()


@pytest.mark.parametrize("by_fold", [True, False])
@pytest.mark.parametrize("method", METHODS)
def test_a_method_gives_the_same_probabilities_in_a_graph(method, by_fold):
    fitted = fitted_blend(method, METHODS[method], by_fold=by_fold)
    check_formula("final", fitted)
    assert in_graph(fitted, TESTS) == pytest.approx(fitted.predict(TESTS), abs=1e-6)


def test_every_method_is_a_formula_or_refused():
    from ensembler.blending.registry import BLEND_METHODS

    assert {*METHODS, "rank", "hard"} == set(BLEND_METHODS.names)


@pytest.mark.parametrize("where", ["after", "before"])
@pytest.mark.parametrize("kind", ["temperature", "vector", "biases"])
def test_a_calibration_gives_the_same_probabilities_in_a_graph(kind, where):
    fitted = fitted_blend("loglinear", {"ridge": 0.01}, metric="accuracy", **{where: kind})
    assert in_graph(fitted, TESTS) == pytest.approx(fitted.predict(TESTS), abs=1e-6)


def test_members_with_other_numbers_of_folds_are_averaged_first():
    fitted, tests = fitted_blend("geometric", {}), [TESTS[0][:1], *TESTS[1:]]
    assert in_graph(fitted, tests) == pytest.approx(fitted.predict(tests), abs=1e-6)


def test_labels_are_blended_one_by_one_and_moved_by_their_thresholds():
    thresholds = np.array([0.2, 0.5, 0.7])
    tests = [RNG.uniform(size=(FOLDS, 9, 3)).astype(np.float32) for _ in NAMES]
    for given in (None, thresholds):
        fitted = fitted_blend("loglinear", {"ridge": 0.01}, labels=3, thresholds=given)
        assert in_graph(fitted, tests) == pytest.approx(fitted.predict(tests), abs=1e-6)


@pytest.mark.parametrize("of", [SINGLE_LABEL, MULTI_LABEL])
@pytest.mark.parametrize("how", ["mean", "logits", "geometric", "max"])
def test_views_are_merged_as_the_run_does(how, of):
    logits = 3 * RNG.normal(size=(3, 9, CLASSES)).astype(np.float32)
    for views in (logits, logits[:1]):
        found = merged_views(how, [torch.from_numpy(view) for view in views], of).numpy()
        assert found == pytest.approx(merge_views(views, how, of=of), abs=1e-6)


@pytest.mark.parametrize("of", [SINGLE_LABEL, MULTI_LABEL])
def test_a_member_that_is_the_mean_of_others_is_that_in_a_graph(of):
    parts = 3 * RNG.normal(size=(3, 9, CLASSES)).astype(np.float32)
    given = [torch.from_numpy(part) for part in parts]
    found = mean_of_parts("probabilities", given, of).numpy()
    assert found == pytest.approx(of.logits_of_mean(parts), abs=1e-5)
    found = mean_of_parts("logits", given, of).numpy()
    assert found == pytest.approx(parts.mean(axis=0), abs=1e-6)


@pytest.mark.parametrize("weighed", [False, True])
def test_tasks_compose_a_label_as_the_run_does(weighed):
    classes_of = {"colour": ("red", "blue"), "form": ("disc", "square", "star")}
    composition = Composition.build(
        "label", classes_of, impossible=[{"colour": "blue", "form": "star"}]
    )
    probs = {"colour": probs_of(9, 2), "form": probs_of(9, 3)}
    factors = np.linspace(0.5, 1.5, len(composition.classes)) if weighed else None
    found = graph_blend.composed(
        [torch.from_numpy(probs[task]) for task in composition.tasks],
        composition.positions(classes_of),
        factors,
    )
    wanted = composition.compose(probs, classes_of, factors)
    assert found.numpy() == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize(
    ("method", "options", "nearest"),
    [
        ("rank", {}, "--method geometric"),
        ("hard", {}, "--method soft"),
        ("stack", {"estimator": "gradient_boosting"}, "--method stack"),
    ],
)
def test_what_is_no_formula_is_refused_with_the_nearest_that_is(method, options, nearest):
    fitted = fitted_blend(method, options)
    with pytest.raises(RequestError, match=f"method {method}") as refused:
        check_formula("final", fitted)
    assert nearest in str(refused.value)


def test_a_method_that_inherits_from_a_known_one_is_no_known_formula():
    from ensembler.blending.methods.voting import SoftVote

    class Other(SoftVote):
        pass

    fitted = FittedBlend(NAMES, Candidate("mine:Other"), Other().fit(STACK, Y), True)
    with pytest.raises(RequestError, match="mine:Other is no formula"):
        check_formula("final", fitted)
