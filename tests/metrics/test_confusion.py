import numpy as np
import pytest

from ensembler.metrics import score
from ensembler.metrics.confusion import confusion_matrix
from ensembler.metrics.registry import METRICS
from ensembler.targets.kinds import SINGLE_LABEL

OF_CONFUSIONS = [
    name for name, found in METRICS[SINGLE_LABEL].items() if found.from_confusion
]


@pytest.mark.parametrize("name", OF_CONFUSIONS)
def test_many_confusion_matrices_give_the_scores_of_their_predictions(name):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 4, 60)
    candidates = rng.dirichlet(np.ones(4), (5, 60))
    confusions = np.stack([confusion_matrix(probs, y) for probs in candidates]).astype(
        float
    )
    expected = [score(name, probs, y) for probs in candidates]
    np.testing.assert_allclose(
        METRICS[SINGLE_LABEL][name].from_confusion(confusions), expected
    )


@pytest.mark.parametrize("name", ["quadratic_kappa", "unweighted_kappa"])
def test_one_class_alone_has_no_kappa(name):
    probs, y = np.array([[0.9, 0.1]] * 5), np.zeros(5, int)
    confusions = confusion_matrix(probs, y)[None].astype(float)
    assert np.isnan(score(name, probs, y))
    assert np.isnan(METRICS[SINGLE_LABEL][name].from_confusion(confusions)).all()
