import numpy as np
import pytest
import sklearn.metrics as reference

from ensembler.errors import UnknownNameError
from ensembler.metrics import check_metric, is_better, metric_names, score, score_all
from ensembler.targets.kinds import SINGLE_LABEL


@pytest.fixture(params=[(300, 2), (500, 5), (40, 10)])
def predictions(request):
    n, classes = request.param
    rng = np.random.default_rng(n)
    probs = rng.dirichlet(np.ones(classes), n)
    y = np.where(rng.random(n) < 0.5, probs.argmax(axis=1), rng.integers(0, classes, n))
    return probs, y


REFERENCES = {
    "accuracy": lambda p, y: reference.accuracy_score(y, p.argmax(1)),
    "balanced_accuracy": lambda p, y: reference.balanced_accuracy_score(y, p.argmax(1)),
    "f1_macro": lambda p, y: reference.f1_score(y, p.argmax(1), average="macro"),
    "log_loss": lambda p, y: reference.log_loss(y, p, labels=range(p.shape[1])),
    "quadratic_kappa": lambda p, y: reference.cohen_kappa_score(
        y, p.argmax(1), weights="quadratic"
    ),
    "unweighted_kappa": lambda p, y: reference.cohen_kappa_score(y, p.argmax(1)),
    "top_3_accuracy": lambda p, y: (
        reference.top_k_accuracy_score(y, p, k=3, labels=range(p.shape[1]))
        if p.shape[1] > 3
        else 1.0
    ),
}


@pytest.mark.parametrize("name", REFERENCES)
@pytest.mark.filterwarnings("ignore:y_pred contains classes")
def test_a_metric_agrees_with_scikit_learn(name, predictions):
    probs, y = predictions
    assert score(name, probs, y) == pytest.approx(REFERENCES[name](probs, y))


def test_auc_agrees_with_scikit_learn_for_two_and_for_many_classes(predictions):
    probs, y = predictions
    scores = probs[:, 1] if probs.shape[1] == 2 else probs
    expected = reference.roc_auc_score(y, scores, multi_class="ovr")
    assert score("roc_auc_ovr", probs, y) == pytest.approx(expected)


def test_auc_leaves_out_a_class_that_does_not_occur():
    probs = np.random.default_rng(0).dirichlet(np.ones(3), 50)
    y = np.arange(50) % 2
    expected = np.mean([reference.roc_auc_score(y == c, probs[:, c]) for c in (0, 1)])
    assert score("roc_auc_ovr", probs, y) == pytest.approx(expected)


def test_the_brier_score_is_the_mean_squared_distance_to_the_one_hot_label(predictions):
    probs, y = predictions
    expected = ((probs - np.eye(probs.shape[1])[y]) ** 2).sum(axis=1).mean()
    assert score("brier", probs, y) == pytest.approx(expected)


def test_ece_is_zero_for_a_prediction_that_is_as_often_right_as_it_says():
    probs = np.tile([0.75, 0.25], (400, 1))
    y = np.where(np.arange(400) % 4 == 0, 1, 0)
    assert score("ece", probs, y) == pytest.approx(0)
    assert score("ece", probs, np.zeros(400, int)) == pytest.approx(0.25)


def test_a_hard_zero_for_the_true_class_keeps_the_log_loss_finite():
    assert score("log_loss", np.array([[1.0, 0.0]]), np.array([1])) == pytest.approx(
        -np.log(1e-7)
    )


def test_one_class_alone_has_no_auc_and_is_left_out_of_the_table():
    probs, y = np.full((5, 2), 0.5), np.zeros(5, int)
    assert np.isnan(score("roc_auc_ovr", probs, y))
    assert "roc_auc_ovr" not in score_all(probs, y)
    assert "accuracy" in score_all(probs, y)


def test_an_unknown_metric_names_the_nearest():
    with pytest.raises(
        UnknownNameError, match="unknown metric 'acuracy'; did you mean 'accuracy'"
    ):
        check_metric("acuracy")


def test_top_k_exists_for_every_k():
    probs = np.array([[0.1, 0.2, 0.3, 0.4]])
    assert score("top_2_accuracy", probs, np.array([2])) == 1
    assert score("top_2_accuracy", probs, np.array([1])) == 0


def test_every_metric_knows_which_way_is_better():
    assert is_better("accuracy", 0.9, 0.8)
    assert is_better("log_loss", 0.2, 0.3)
    assert not is_better("log_loss", 0.3, 0.3)
    assert all(
        isinstance(check_metric(name).greater_is_better, bool) for name in metric_names()
    )


@pytest.mark.parametrize("kind", [np.uint8, np.int8, np.int16, list])
def test_labels_of_a_small_type_give_the_same_score(kind):
    rng = np.random.default_rng(0)
    probs, y = rng.dirichlet(np.ones(30), 500), rng.integers(0, 30, 500)
    small = y.tolist() if kind is list else y.astype(kind)
    for name in metric_names(of=SINGLE_LABEL):
        assert score(name, probs, small) == score(name, probs, y)
