import numpy as np
import pytest

from ensembler.evaluation.predicted import Predicted
from ensembler.evaluation.prior_shift import (
    estimate_shift,
    explained_shares,
    likeliest_shares,
    shift_of,
    with_shares,
)


def rows(shares, n=2000, seed=0):
    """Rows of three classes with given shares, and calibrated probabilities for equal shares."""
    rng = np.random.default_rng(seed)
    y = rng.choice(3, n, p=shares)
    x = rng.normal(size=(n, 3))
    x[np.arange(n), y] += 2.0
    likely = np.exp(2.0 * x)
    return y, likely / likely.sum(axis=1, keepdims=True)


EQUAL = np.full(3, 1 / 3)
OTHER = np.array([0.7, 0.25, 0.05])


def test_em_finds_the_shares_of_rows_without_labels():
    _, probs = rows(OTHER)
    assert np.allclose(likeliest_shares(probs, EQUAL), OTHER, atol=0.03)


def test_confusions_explain_the_shares_of_rows_without_labels():
    y, probs = rows(EQUAL)
    _, test = rows(OTHER, seed=1)
    assert np.allclose(explained_shares(probs, y, test), OTHER, atol=0.04)


def test_rows_with_the_shares_of_the_train_rows_stay_as_they_are():
    _, probs = rows(EQUAL)
    assert np.allclose(with_shares(probs, EQUAL, EQUAL), probs)


def oof(shares):
    y, probs = rows(shares, n=600)
    return Predicted(
        "blend", "b", "label", ("x", "y", "z"), "oof", np.arange(600), probs, y
    )


def test_a_shift_that_is_there_pays_and_none_does_not():
    there = shift_of(oof(EQUAL), rows(OTHER, n=500, seed=1)[1], None)
    assert there.pays
    assert (there.low <= there.em).all()
    assert (there.em <= there.high).all()
    none = shift_of(oof(EQUAL), rows(EQUAL, n=500, seed=1)[1], np.arange(600) // 3)
    assert not none.pays


def test_the_shift_of_a_run_is_that_of_its_submitted_blend(fake_run):
    said = estimate_shift(fake_run).to_json()
    assert sum(part["em"] for part in said["shares"]) == pytest.approx(1)
    assert said["n_test"] == int(fake_run.samples.to_submit.sum())
