import numpy as np
import pytest

from ensembler.errors import RequestError, UnknownNameError
from ensembler.evaluation.conformal import (
    _cross_fitted,
    check_conformal,
    evaluate_sets,
    ranked_scores,
    sets_of,
    threshold,
)
from ensembler.evaluation.predicted import Predicted


def drawn(n=4000, classes=5, seed=0, sharpness=2.0):
    """Probabilities, and labels drawn by them: calibrated by construction."""
    rng = np.random.default_rng(seed)
    probs = rng.dirichlet(np.full(classes, 1 / sharpness), n)
    y = (rng.random((n, 1)) > probs.cumsum(axis=1)[:, :-1]).sum(axis=1)
    names = tuple("abcde"[:classes])
    return Predicted("member", "m", "label", names, "oof", np.arange(n), probs, y)


@pytest.mark.parametrize("method", ["aps", "raps"])
@pytest.mark.parametrize("coverage", [0.8, 0.95])
def test_sets_hold_the_true_class_as_often_as_asked(method, coverage):
    row = _cross_fitted(drawn(), None, coverage, method)
    assert row.covered >= coverage - 0.02
    assert row.low <= row.covered <= row.high
    assert 1 <= row.size <= 5


def test_overconfident_probabilities_cost_size_and_not_coverage():
    fair = drawn()
    sharp = fair.probs**4 / (fair.probs**4).sum(axis=1, keepdims=True)
    bold = Predicted("member", "m", "label", fair.classes, "oof", fair.rows, sharp, fair.y)
    assert _cross_fitted(bold, None, 0.9, "raps").covered >= 0.88


def test_a_score_is_the_probability_of_all_more_probable_classes():
    probs = np.array([[0.5, 0.2, 0.3]])
    assert np.allclose(ranked_scores(probs, "aps"), [[0, 0.8, 0.5]])
    assert np.allclose(ranked_scores(probs, "raps"), [[0, 0.85, 0.5]])


@pytest.mark.parametrize("method", ["aps", "raps"])
def test_a_sure_row_has_a_set_of_one_and_an_unsure_one_of_several(method):
    given = drawn()
    row = _cross_fitted(given, None, 0.8, method)
    assert row.single > 0.1
    sure = ranked_scores(np.array([[0.98, 0.01, 0.01], [0.4, 0.35, 0.25]]), method)
    assert sets_of(sure, 0.8).sum(axis=1).tolist() == [1, 3]


def test_the_threshold_is_the_rank_that_new_rows_need():
    scores = np.arange(1, 10) / 10
    assert threshold(scores, 0.5) == 0.5
    assert threshold(scores, 0.9) == 0.9
    assert threshold(scores, 0.95) == np.inf  # nine rows cannot promise that


def test_no_set_is_empty():
    scores = ranked_scores(np.array([[0.4, 0.6], [0.9, 0.1]]), "aps")
    assert sets_of(scores, -1.0).sum(axis=1).tolist() == [1, 1]


def test_a_row_is_not_in_the_threshold_of_its_own_group():
    given = drawn(n=200)
    groups = np.arange(200) // 20
    row = _cross_fitted(given, groups, 0.9, "aps")
    y = given.y.copy()
    # one group whose labels are the least probable: its own sets cannot know
    y[:20] = given.probs[:20].argmin(axis=1)
    odd = Predicted(
        "member", "m", "label", given.classes, "oof", given.rows, given.probs, y
    )
    assert _cross_fitted(odd, groups, 0.9, "aps").covered < row.covered


def test_members_and_blends_of_a_run_have_sets(fake_run):
    found = evaluate_sets(fake_run, 0.9)
    assert {row.name for row in found.rows} >= set(fake_run.complete_members)
    said = found.to_json()["rows"][0]
    assert said["split"] == "oof"
    assert sum(part["n"] for part in said["per_class"]) == said["n"]


def test_what_cannot_be_covered_is_refused():
    with pytest.raises(RequestError, match="to below 1, such as"):
        check_conformal(90, "aps")
    with pytest.raises(UnknownNameError, match="raps"):
        check_conformal(0.9, "rasp")
    with pytest.raises(RequestError, match="too few"):
        _cross_fitted(drawn(n=12), None, 0.9, "aps")
