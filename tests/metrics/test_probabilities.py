import numpy as np
import pytest
from sklearn.metrics import log_loss as reference

from ensembler.metrics.probabilities import FLOOR, brier_score, log_loss, without_zeros
from ensembler.targets.kinds import MULTI_LABEL


@pytest.fixture
def predictions():
    rng = np.random.default_rng(0)
    return rng.dirichlet(np.ones(3), 100), rng.integers(0, 3, 100)


def test_log_loss_agrees_with_scikit_learn(predictions):
    probs, y = predictions
    assert log_loss(probs, y) == pytest.approx(reference(y, probs, labels=range(3)))


def test_the_truth_is_the_best_prediction_there_is():
    y = np.arange(3)
    assert log_loss(np.eye(3), y) == brier_score(np.eye(3), y) == 0
    assert brier_score(np.eye(3)[[1, 2, 0]], y) == pytest.approx(2)


def test_probabilities_without_zeros_keep_their_sums_and_the_order_of_samples(predictions):
    probs, _ = predictions
    probs[0] = [1, 0, 0]
    raised = without_zeros(probs)
    assert raised.min() >= FLOOR
    assert np.allclose(raised.sum(axis=1), 1)
    assert np.array_equal(raised.argsort(axis=0), probs.argsort(axis=0))


def test_probabilities_that_have_no_zero_are_left_as_they_are(predictions):
    probs = np.full((2, 4), 0.25)
    assert np.array_equal(without_zeros(probs), probs)


def test_single_labels_are_kept_from_one_as_well():
    raised = without_zeros(np.array([[0.0, 1.0, 0.5]]), of=MULTI_LABEL)
    assert raised.min() >= FLOOR
    assert raised.max() <= 1 - FLOOR
    assert raised[0, 2] == pytest.approx(0.5)
