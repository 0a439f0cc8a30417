import numpy as np
import pytest
import sklearn.metrics as reference

from ensembler.metrics.confusion import confusion_matrix
from ensembler.metrics.labels import (
    accuracy,
    balanced_accuracy,
    f1_macro,
    quadratic_kappa,
    unweighted_kappa,
)


@pytest.fixture
def predictions():
    rng = np.random.default_rng(0)
    return rng.dirichlet(np.ones(4), 200), rng.integers(0, 4, 200)


def test_the_counts_are_those_of_scikit_learn(predictions):
    probs, y = predictions
    expected = reference.confusion_matrix(y, probs.argmax(axis=1), labels=range(4))
    assert np.array_equal(confusion_matrix(probs, y), expected)


def test_a_tie_goes_to_the_first_class():
    assert confusion_matrix(np.array([[0.4, 0.4, 0.2]]), np.array([1]))[1, 0] == 1


def test_a_class_that_no_row_has_counts_for_no_mean():
    probs, y = np.eye(3)[[0, 1, 1]], np.array([0, 1, 0])
    assert accuracy(probs, y) == pytest.approx(2 / 3)
    assert balanced_accuracy(probs, y) == pytest.approx((1 / 2 + 1) / 2)
    assert f1_macro(probs, y) == pytest.approx(2 / 3)


def test_a_far_error_costs_the_quadratic_kappa_more_and_the_other_the_same():
    y = np.array([0, 1, 2, 0, 1, 2])
    near, far = np.eye(3)[[1, 1, 2, 0, 1, 2]], np.eye(3)[[2, 1, 2, 0, 1, 2]]
    assert quadratic_kappa(far, y) < quadratic_kappa(near, y)
    assert unweighted_kappa(far, y) == pytest.approx(unweighted_kappa(near, y))


@pytest.mark.parametrize("kappa", [quadratic_kappa, unweighted_kappa])
def test_one_class_alone_has_no_kappa(kappa):
    assert np.isnan(kappa(np.eye(2)[[0, 0]], np.array([0, 0])))
