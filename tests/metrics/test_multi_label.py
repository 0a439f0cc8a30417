import numpy as np
import pytest
import sklearn.metrics as reference

from ensembler.errors import UnknownNameError
from ensembler.metrics import check_metric, metric_names, row_losses, score, score_all
from ensembler.targets.kinds import MULTI_LABEL


@pytest.fixture(params=[(200, 4), (60, 12)])
def predictions(request):
    n, labels = request.param
    rng = np.random.default_rng(n)
    probs = rng.random((n, labels)).round(2)  # with ties
    return probs, (rng.random((n, labels)) < 0.3 + 0.4 * probs).astype(np.int64)


REFERENCES = {
    "accuracy": lambda p, y: reference.accuracy_score(y, p >= 0.5),
    "hamming_loss": lambda p, y: reference.hamming_loss(y, p >= 0.5),
    "f1_macro": lambda p, y: reference.f1_score(y, p >= 0.5, average="macro"),
    "f1_micro": lambda p, y: reference.f1_score(y, p >= 0.5, average="micro"),
    "f1_samples": lambda p, y: reference.f1_score(
        y, p >= 0.5, average="samples", zero_division=1.0
    ),
    "roc_auc_ovr": lambda p, y: reference.roc_auc_score(y, p, average="macro"),
    "average_precision": lambda p, y: reference.average_precision_score(
        y, p, average="macro"
    ),
    "log_loss": lambda p, y: np.mean(
        [
            reference.log_loss(y[:, c], np.clip(p[:, c], 1e-7, 1 - 1e-7))
            for c in range(y.shape[1])
        ]
    ),
    "brier": lambda p, y: (
        2
        * np.mean([reference.brier_score_loss(y[:, c], p[:, c]) for c in range(y.shape[1])])
    ),
}


@pytest.mark.parametrize("name", REFERENCES)
def test_a_metric_agrees_with_scikit_learn(name, predictions):
    probs, y = predictions
    assert score(name, probs, y) == pytest.approx(REFERENCES[name](probs, y))


def test_all_of_them_are_the_usual_ones(predictions):
    assert (
        set(score_all(*predictions))
        == set(REFERENCES) | {"ece"}
        == set(metric_names(of=MULTI_LABEL))
    )


@pytest.mark.parametrize(
    "name", ["log_loss", "brier", "hamming_loss", "accuracy", "f1_samples"]
)
def test_a_mean_over_samples_is_the_mean_of_their_losses(name, predictions):
    probs, y = predictions
    mean = row_losses(name, probs, y).mean()
    assert mean == pytest.approx(
        1 - score(name, probs, y)
        if name in ("accuracy", "f1_samples")
        else score(name, probs, y)
    )


def test_a_label_that_nobody_has_takes_no_part_in_ranking_scores():
    y = np.array([[1, 0], [0, 0], [1, 0]])
    probs = np.array([[0.9, 0.2], [0.3, 0.4], [0.2, 0.1]])
    assert score("roc_auc_ovr", probs, y) == 0.5
    assert np.isnan(score("average_precision", probs[:, 1:], y[:, 1:]))
    assert "average_precision" not in score_all(probs[:, 1:], y[:, 1:])


def test_a_metric_of_the_other_kind_is_named_as_such(predictions):
    probs, y = predictions
    with pytest.raises(UnknownNameError, match="metric of several labels at once"):
        score("balanced_accuracy", probs, y)
    with pytest.raises(UnknownNameError, match="metric of one label"):
        score("f1_samples", probs, y[:, 0])
    assert not check_metric("hamming_loss").greater_is_better
