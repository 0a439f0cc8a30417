"""Every searched method on pools that leave it nothing to hold on to: copies, few rows, constants, perfection, zeros."""

import warnings

import numpy as np
import pytest
from fuzz import some

from ensembler.blending import Pool, create_blend, make_blend
from ensembler.blending import single_label as make
from ensembler.blending.calibration.calibrated import Calibrated
from ensembler.blending.calibration.label_thresholds import fit_thresholds
from ensembler.blending.methods.simplex import log_loss_optimum
from ensembler.blending.spec import BlendSpec
from ensembler.blending.testing import invented_pool

FITS = {
    "simplex": lambda: create_blend("simplex"),
    "simplex brier": lambda: create_blend("simplex", metric="brier"),
    "greedy": lambda: create_blend("greedy", rounds=20),
    "greedy f1": lambda: create_blend("greedy", rounds=20, metric="f1_macro"),
    "greedy auc": lambda: create_blend("greedy", rounds=3, metric="roc_auc_ovr"),
    "hill_climb": lambda: create_blend("hill_climb"),
    "hill_climb below zero": lambda: create_blend(
        "hill_climb", metric="accuracy", negative=True
    ),
    "loglinear": lambda: create_blend("loglinear"),
    "loglinear without ridge": lambda: create_blend("loglinear", ridge=0),
    "loglinear above zero": lambda: create_blend("loglinear", ridge=1e-3, nonnegative=True),
    "stack": lambda: create_blend("stack", max_iterations=50),
    "stack with probabilities": lambda: create_blend(
        "stack", probabilities=True, shrinkage=10.0, ridge=1e-3
    ),
    "temperature": lambda: Calibrated(create_blend("soft"), "temperature", "temperature"),
    "vector": lambda: Calibrated(create_blend("soft"), "vector", "vector"),
    "class biases": lambda: Calibrated(
        create_blend("soft"), "biases", metric="balanced_accuracy"
    ),
}


def near_copies(members, rows, classes, seed):
    """Four copies of every member, which differ from it in the fourth to the seventh digit."""
    stack, y = invented_pool(members, rows, classes, seed)
    noise = (
        np.random.default_rng(seed).normal(size=(4, *stack.shape))
        * 10.0 ** -np.arange(4, 8)[:, None, None, None]
    )
    copies = np.clip(np.concatenate([stack, *(stack * (1 + noise))]), 1e-7, None)
    return (copies / copies.sum(axis=2, keepdims=True)).astype(np.float32), y


def sharpened(members, rows, classes, seed):
    stack, y = invented_pool(members, rows, classes, seed)
    sharp = stack.astype(np.float64) ** 60
    return (sharp / sharp.sum(axis=2, keepdims=True)).astype(np.float32), y


def changed(change):
    def make(members, rows, classes, seed):
        stack, y = invented_pool(members, rows, classes, seed)
        return change(stack, y)

    return make


POOLS = {
    "near copies": near_copies,
    "copies": changed(lambda stack, y: (np.concatenate([stack] * 6), y)),
    "float16": changed(lambda stack, y: (stack.astype(np.float16), y)),
    "sharpened": sharpened,
    "0 and 1": changed(
        lambda stack, y: (np.eye(stack.shape[2], dtype=np.float32)[stack.argmax(axis=2)], y)
    ),
    "constant": changed(lambda stack, y: (np.full_like(stack, 1 / stack.shape[2]), y)),
    "one constant": changed(
        lambda stack, y: (
            np.concatenate([stack, np.full_like(stack[:1], 1 / stack.shape[2])]),
            y,
        )
    ),
    "perfect": changed(
        lambda stack, y: (
            np.concatenate([stack, np.eye(stack.shape[2], dtype=np.float32)[y][None]]),
            y,
        )
    ),
    "all perfect": changed(
        lambda stack, y: (np.stack([np.eye(stack.shape[2], dtype=np.float32)[y]] * 3), y)
    ),
    "always wrong": changed(
        lambda stack, y: (
            np.stack([np.eye(stack.shape[2], dtype=np.float32)[y - 1]] * 3),
            y,
        )
    ),
    "one class": changed(lambda stack, y: (stack, np.zeros_like(y))),
    "one row of a class": changed(
        lambda stack, y: (stack, np.where(np.arange(len(y)) == 0, 1, 0))
    ),
    "alone": changed(lambda stack, y: (stack[:1], y)),
    "two rows": changed(lambda stack, y: (stack[:, :2], y[:2])),
    "one row": changed(lambda stack, y: (stack[:, :1], y[:1])),
}
SIZES = [(4, 60, 4), (12, 8, 3)]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("kind", POOLS)
@pytest.mark.parametrize("fit", FITS)
def test_any_search_ends_in_probabilities(fit, kind, size):
    stack, y = POOLS[kind](*size, seed=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        probs = np.asarray(FITS[fit]().fit(stack, y).predict_proba(stack))
    assert np.isfinite(probs).all()
    assert (probs >= 0).all()
    assert np.allclose(probs.sum(axis=1), 1, atol=2e-3)


@pytest.mark.parametrize("seed", range(some(1, 10)))
@pytest.mark.parametrize("size", [(15, 300, 3), (20, 12, 3)], ids=str)
@pytest.mark.parametrize("kind", POOLS)
def test_the_simplex_certificate_holds_on_any_pool(kind, size, seed):
    """No vector of weights lies lower than the certificate allows: expectation maximisation climbs towards the optimum."""
    stack, y = POOLS[kind](*size, seed=seed)
    method = create_blend("simplex").fit(stack, y)
    q = np.clip(stack[:, np.arange(len(y)), y], 1e-7, None).astype(np.float64)
    weights = np.full(len(q), 1 / len(q))
    for _ in range(200):
        weights *= (q / (weights @ q)).mean(axis=1)
    loss = -np.log(method.weights_ @ q).mean()
    assert method.gap_ <= 1e-4
    assert loss <= -np.log(weights @ q).mean() + method.gap_ + 1e-6


@pytest.mark.parametrize(
    "metric", ["f1_macro", "f1_micro", "f1_samples", "accuracy", "hamming_loss"]
)
@pytest.mark.parametrize(
    "kind", ["ties", "zeros", "ones", "no label", "every label", "one row"]
)
def test_thresholds_are_found_on_any_labels(kind, metric):
    rng = np.random.default_rng(0)
    probs, y = rng.random((40, 3)), rng.integers(0, 2, (40, 3))
    probs = {"ties": np.round(probs), "zeros": probs * 0, "ones": probs * 0 + 1}.get(
        kind, probs
    )
    y = {"no label": y * 0, "every label": y * 0 + 1}.get(kind, y)
    if kind == "one row":
        probs, y = probs[:1], y[:1]
    thresholds = fit_thresholds(probs, y, metric)
    assert ((thresholds > 0) & (thresholds < 1)).all()


def test_near_copies_of_members_once_ended_the_newton_step():
    """Their Hessian is singular, and its sums in float32 fall short even of that."""
    column = np.concatenate(
        [near_copies(15, 300, 3, seed)[0][:, :, 0] for seed in (120, 121)]
    )
    weights, gap = log_loss_optimum(np.ascontiguousarray(column))
    assert weights.sum() == pytest.approx(1)
    assert gap <= 1e-4


def pool_of(stack, y):
    names = tuple(f"m{i}" for i in range(len(stack)))
    return Pool(
        names,
        stack,
        y,
        tuple(f"c{i}" for i in range(stack.shape[2])),
        np.arange(len(y)) % 5,
    )


def fail(*_, **__):
    raise np.linalg.LinAlgError("7-th leading minor of the array is not positive definite")


@pytest.mark.parametrize("extra", ["member_worths", "_gains_over_baselines", "_frontier"])
def test_no_extra_takes_the_blend_with_it(extra, monkeypatch):
    real = getattr(make, extra)

    def fails_unless_quick(*arguments, **options):
        return real(*arguments, **options) if options.get("seconds") == 0 else fail()

    monkeypatch.setattr(make, extra, fails_unless_quick)
    # too few rows for a stack to be compared, whose fits take long
    result = make_blend(pool_of(*invented_pool(rows=95)), BlendSpec(), explain=True)
    said = [w["message"] for w in result.warnings if w["code"] == "left_out_after_failure"]
    assert len(said) == 1
    assert "7-th leading minor" in said[0]
    assert [w.member for w in result.details.members] == ["m0", "m1", "m2", "m3"]


def test_auto_does_without_a_candidate_that_fails(monkeypatch):
    monkeypatch.setattr("ensembler.blending.methods.simplex.SimplexWeights.fit", fail)
    result = make_blend(pool_of(*invented_pool(rows=95)), BlendSpec())
    assert not any(label.startswith("simplex") for label in result.details.candidates)
    codes = [w["code"] for w in result.warnings]
    assert codes.count("left_out_after_failure") == 2
    assert "stopped_early" not in codes
