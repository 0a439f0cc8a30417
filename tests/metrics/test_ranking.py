import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score, top_k_accuracy_score

from ensembler.metrics.ranking import area, average_precision, in_top, top_k_accuracy


@pytest.fixture(params=[None, 1], ids=["no ties", "many ties"])
def values(request):
    rng = np.random.default_rng(0)
    values = (
        rng.random(300) if request.param is None else rng.random(300).round(request.param)
    )
    return values, rng.random(300) < values


def test_area_and_average_precision_agree_with_scikit_learn(values):
    scores, positive = values
    assert area(scores, positive) == pytest.approx(roc_auc_score(positive, scores))
    expected = average_precision_score(positive, scores)
    assert average_precision(scores, positive) == pytest.approx(expected)


def test_only_the_order_counts(values):
    scores, positive = values
    assert area(np.exp(5 * scores), positive) == area(scores, positive)


def test_the_best_k_agree_with_scikit_learn_and_hold_all_of_the_best_k_minus_one():
    rng = np.random.default_rng(0)
    probs, y = rng.dirichlet(np.ones(5), 100), rng.integers(0, 5, 100)
    for k in (1, 2, 4):
        expected = top_k_accuracy_score(y, probs, k=k, labels=range(5))
        assert top_k_accuracy(probs, y, k) == pytest.approx(expected)
        assert (in_top(probs, y, k) <= in_top(probs, y, k + 1)).all()
    assert in_top(probs, y, 5).all()


def test_of_equal_probabilities_the_first_classes_are_taken():
    even = np.full((4, 4), 0.25)
    assert in_top(even, np.arange(4), 2).tolist() == [True, True, False, False]
