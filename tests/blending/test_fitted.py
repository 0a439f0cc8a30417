"""A blend that is built again from its state predicts the same bits."""

import dataclasses

import numpy as np
import pytest

from ensembler.blending import BLEND_METHODS, Pool, make_blend
from ensembler.blending.fitted import FittedBlend
from ensembler.blending.spec import BlendSpec
from ensembler.blending.state import State
from ensembler.blending.testing import invented_pool
from ensembler.logits import sigmoid

MEMBERS, ROWS, CLASSES, TEST, FOLDS = 4, 120, 3, 30, 2
NAMES = tuple("abcd")


def invented_tests(rows, seed):
    return invented_pool(MEMBERS, rows, CLASSES, seed=seed)[0]


def pool(folds=(FOLDS,) * MEMBERS, rows=ROWS):
    stack, y = invented_pool(MEMBERS, rows, CLASSES)
    test = [
        np.stack([invented_tests(TEST, f)[m] for f in range(n)])
        for m, n in enumerate(folds)
    ]
    where = np.arange(rows) % FOLDS
    return Pool(NAMES, stack, y, ("x", "y", "z"), where, test=tuple(test))


def multi_label_pool():
    rng = np.random.default_rng(3)
    y = (rng.random((ROWS, CLASSES)) < [0.5, 0.3, 0.2]).astype(np.int64)
    oof = sigmoid(rng.normal(size=(MEMBERS, ROWS, CLASSES)) + 2.0 * y - 1).astype(
        np.float32
    )
    test = sigmoid(rng.normal(size=(MEMBERS, FOLDS, TEST, CLASSES))).astype(np.float32)
    where = np.arange(ROWS) % FOLDS
    return Pool(NAMES, oof, y, ("x", "y", "z"), where, test=tuple(test))


def blend_of(given, **spec):
    """A blend whose scores do not matter here: cross-fitted in three parts, not in five."""
    return make_blend(
        given, BlendSpec.model_validate(spec), part=np.arange(len(given.y)) % 3
    )


def again(result):
    """The blend of a result, built again from bytes."""
    return FittedBlend.from_state(State.from_bytes(result.blend.state().to_bytes()))


def assert_the_same(result, given):
    blend, chosen = again(result), given.choose(result.members)
    assert blend.members == result.members
    assert np.array_equal(blend.predict(chosen.test), result.test)
    # Also of rows one after the other, but for ranks, which are those among the rows scored.
    if result.method != "rank":
        few = [test[:, :7] for test in chosen.test]
        assert np.array_equal(blend.predict(few), result.blend.predict(few))


SPECS = [
    *({"method": name} for name in BLEND_METHODS.names if name != "weights"),
    {"weights": {"a": 2, "c": 1}},
    {"method": "auto"},
    {"method": "power", "options": {"power": 2.0}},
    {"method": "trimmed_mean", "options": {"share": 0.3}},
    {"method": "greedy", "metric": "f1_macro", "options": {"rounds": 9}},
    {"method": "hill_climb", "options": {"negative": True}},
    {"method": "simplex", "metric": "brier"},
    {"method": "loglinear", "options": {"nonnegative": True}},
    {
        "method": "stack",
        "options": {"probabilities": True, "shrinkage": 30.0, "ridge": 0.01},
    },
]
FOUND = {"loglinear": {"ridge": 0.01}, "stack": {"shrinkage": 30.0, "ridge": 0.01}}
CALIBRATIONS = [
    {},
    {"calibrate": "temperature"},
    {"calibrate": "vector", "calibrate_members": "temperature"},
    {"calibrate": "biases", "metric": "f1_macro", "calibrate_members": "vector"},
]


def label(spec):
    return "-".join(str(value) for value in spec.values()) or "plain"


@pytest.mark.parametrize("calibration", CALIBRATIONS, ids=label)
@pytest.mark.parametrize("spec", SPECS, ids=label)
def test_every_method_with_every_calibration(spec, calibration):
    given = pool()
    if calibration:
        # What is searched for is found in the plain case; calibrations fit it many times over.
        found = FOUND.get(spec.get("method"), {})
        spec = {**spec, **calibration, "options": {**found, **spec.get("options", {})}}
    if calibration and spec.get("method") == "auto":
        given = pool(rows=95)  # too few for a stack to be compared
    assert_the_same(blend_of(given, **spec), given)


@pytest.mark.parametrize("calibration", [{}, {"calibrate": "biases", "metric": "f1_macro"}])
@pytest.mark.parametrize("method", ["soft", "greedy", "loglinear", "stack", "auto"])
def test_blends_of_several_labels_with_their_thresholds(method, calibration):
    given = multi_label_pool()
    result = blend_of(given, method=method, **calibration)
    assert (again(result).thresholds is not None) == bool(calibration)
    assert_the_same(result, given)


@pytest.mark.parametrize("narrow", [{"prune": 0.05}, {"max_cost": 2.5}])
@pytest.mark.parametrize("make", [pool, multi_label_pool])
def test_blends_of_members_that_were_chosen(narrow, make):
    whole = make()
    stack = np.concatenate([whole.oof, whole.oof[:1] * 0.999 + 0.0001])
    given = dataclasses.replace(
        whole,
        names=(*NAMES, "twin"),
        oof=stack,
        test=(*whole.test, whole.test[0]),
        costs=dict.fromkeys((*NAMES, "twin"), 1.0),
    )
    several = {"calibrate": "biases", "metric": "f1_macro"} if given.y.ndim == 2 else {}
    result = blend_of(given, method="loglinear", **several, **narrow)
    assert len(result.members) < len(given.names)
    assert_the_same(result, given)


def test_members_with_other_numbers_of_folds_are_averaged_first_again():
    given = pool(folds=(2, 3, 2, 1))
    result = make_blend(given, BlendSpec(method="geometric"))
    assert not result.blend.by_fold
    assert_the_same(result, given)
    # By then all members have as many folds: they are averaged first all the same.
    even = [test[:1].repeat(2, axis=0) for test in given.test]
    assert np.array_equal(again(result).predict(even), result.blend.predict(even))


def test_a_pool_without_test_rows_leaves_a_blend_that_predicts_by_fold():
    given = pool()
    result = make_blend(
        dataclasses.replace(given, test=None), BlendSpec(method="geometric")
    )
    expected = make_blend(given, BlendSpec(method="geometric")).test
    assert np.array_equal(again(result).predict(given.test), expected)


def test_no_new_samples_are_no_rows():
    result = make_blend(pool(), BlendSpec(method="soft"))
    assert again(result).predict([np.empty((2, 0, CLASSES))] * MEMBERS).shape == (
        0,
        CLASSES,
    )
