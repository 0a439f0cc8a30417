import numpy as np
import pytest
from scipy import special

from ensembler.logits import (
    log_mean_probs,
    log_odds,
    log_odds_of_mean,
    log_probs,
    log_softmax,
    sigmoid,
    softmax,
)


@pytest.fixture
def logits():
    return np.random.default_rng(0).normal(scale=30, size=(4, 50, 3)).astype(np.float32)


def test_they_agree_with_scipy(logits):
    assert np.allclose(softmax(logits), special.softmax(logits.astype(float), axis=-1))
    assert np.allclose(
        log_softmax(logits), special.log_softmax(logits.astype(float), axis=-1)
    )
    assert np.allclose(sigmoid(logits), special.expit(logits.astype(float)))


@pytest.mark.filterwarnings("error")
def test_logits_of_any_size_neither_overflow_nor_lose_a_row():
    huge = np.array([[1e30, -1e30], [np.nan, 0.0]], np.float32)
    assert softmax(huge)[0].tolist() == [1, 0]
    assert np.isnan(softmax(huge)[1]).all()
    assert sigmoid(huge)[0].tolist() == [1, 0]


def test_the_mean_of_probabilities_is_taken_without_underflow(logits):
    expected = softmax(logits).mean(axis=0)
    assert np.allclose(softmax(log_mean_probs(logits)), expected, atol=1e-6)
    expected = sigmoid(logits).mean(axis=0)
    assert np.allclose(sigmoid(log_odds_of_mean(logits)), expected, atol=1e-6)
    far = np.full((2, 1, 2), [0.0, -2000.0], np.float32)
    assert log_mean_probs(far)[0, 1] == pytest.approx(-2000)


def test_log_odds_undo_sigmoids_and_keep_zeros_finite():
    probs = np.array([0.0, 0.3, 1.0])
    assert np.allclose(sigmoid(log_odds(probs)), probs, atol=2e-7)
    assert np.isfinite(log_odds(probs)).all()
    assert log_probs(np.zeros(1), 1e-7) == pytest.approx(np.log(1e-7))
