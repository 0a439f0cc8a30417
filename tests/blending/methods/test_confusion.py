import numpy as np
import pytest

from ensembler.blending.methods.confusion import CONFUSION_SCORES
from ensembler.metrics import score
from ensembler.metrics.labels import confusion_matrix


@pytest.mark.parametrize("metric", CONFUSION_SCORES)
def test_a_score_of_confusions_is_the_metric(metric):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 4, 60)
    candidates = rng.dirichlet(np.ones(4), (5, 60))
    confusions = np.stack([confusion_matrix(probs, y) for probs in candidates]).astype(float)
    expected = [score(metric, probs, y) for probs in candidates]
    np.testing.assert_allclose(CONFUSION_SCORES[metric](confusions), expected)


@pytest.mark.parametrize("metric", ["quadratic_kappa", "unweighted_kappa"])
def test_one_class_alone_has_no_kappa_in_either_form(metric):
    probs, y = np.array([[0.9, 0.1]] * 5), np.zeros(5, int)
    confusions = confusion_matrix(probs, y)[None].astype(float)
    assert np.isnan(score(metric, probs, y))
    assert np.isnan(CONFUSION_SCORES[metric](confusions)).all()
