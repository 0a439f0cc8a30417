"""What every head owes, held to one contract."""

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import softmax

from ensembler.blending.state import State
from ensembler.errors import MissingExtraError, RequestError, StoreError, TrainingError
from ensembler.estimators import boosting
from ensembler.estimators.choosing import chosen, divided
from ensembler.estimators.files import check_heads, read_heads, write_heads
from ensembler.estimators.linear import Layers
from ensembler.estimators.problem import Problem
from ensembler.estimators.target_head import TargetHead, fit_classes, new_head
from ensembler.estimators.weights import class_weights

OWN = "sklearn.naive_bayes:GaussianNB"
HEADS = {
    "logistic": {},
    "lda": {},
    "ridge": {},
    "mlp": {"hidden_layer_sizes": [8], "max_iter": 60, "learning_rate_init": 0.02},
    "knn": {},
    "lightgbm": {"n_estimators": 20, "min_child_samples": 3},
    OWN: {},
}
UNWEIGHTED = ("lda",)


def problem(n=120, classes=3, seed=0):
    """Features of which the first few say the class, on scales that differ a thousandfold."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % classes
    x = rng.normal(size=(n, 10))
    x[np.arange(n), y] += 3
    x = x * 10.0 ** np.linspace(-2, 1, 10) + 5
    return Problem(x.astype(np.float32), y, classes, np.ones(n), None, seed)


@pytest.fixture(params=HEADS)
def head(request):
    return new_head(request.param, HEADS[request.param])


def test_it_tells_classes_apart_that_it_has_not_seen(head):
    fitted, new = head.fit(problem()), problem(seed=1)
    logits = fitted.logits(new.x)
    assert logits.shape == (120, 3)
    assert logits.dtype == np.float32
    assert np.isfinite(logits).all()
    assert (logits.argmax(axis=1) == new.y).mean() > 0.75
    probs = softmax(logits.astype(float), axis=1)
    assert -np.log(probs[np.arange(120), new.y]).mean() < np.log(3)


def test_two_classes_have_two_logits(head):
    new = problem(classes=2, seed=1)
    logits = head.fit(problem(classes=2)).logits(new.x)
    assert logits.shape == (120, 2)
    assert (logits.argmax(axis=1) == new.y).mean() > 0.75


def test_the_same_rows_and_seed_give_the_same_head(head):
    given = problem()
    one, two = head.fit(given), head.fit(given)
    assert np.array_equal(one.logits(given.x), two.logits(given.x))


def test_it_is_kept_without_a_pickle_and_predicts_the_same(head):
    fitted = fit_classes(head, problem())
    content = TargetHead((fitted,), is_set=False).state.to_bytes()
    again = TargetHead.from_state(State.from_bytes(content))
    new = problem(seed=1)
    assert np.array_equal(again.logits(new.x), fitted.logits(new.x))


def test_no_rows_have_no_logits(head):
    assert head.fit(problem()).logits(np.empty((0, 10), np.float32)).shape == (0, 3)


def test_a_class_without_train_rows_is_improbable_but_not_impossible(head):
    given = problem()
    lacking = given.of_rows(np.flatnonzero(given.y != 1))
    probs = softmax(fit_classes(head, lacking).logits(given.x).astype(float), axis=1)
    assert (probs[:, 1] > 0).all()
    assert (probs[:, 1] < 1e-4).all()


@pytest.mark.parametrize("name", HEADS)
def test_rows_count_by_their_weight(name):
    given = problem()
    weighted = replace(given, weights=np.where(given.y == 0, 5.0, 0.2))
    head = new_head(name, HEADS[name])
    if name in UNWEIGHTED:
        with pytest.raises(RequestError, match="takes no weights of rows"):
            head.fit(weighted)
        return
    # where nothing tells classes apart, the heavier one is more probable
    blind = np.random.default_rng(0).normal(size=given.x.shape).astype(np.float32)
    logits = head.fit(replace(weighted, x=blind)).logits(blind[::-1].copy() + 1)
    assert softmax(logits.astype(float), axis=1).mean(axis=0).argmax() == 0


def test_layers_are_those_of_scikit_learn():
    from sklearn.linear_model import LogisticRegression

    given = problem()
    fitted = new_head("logistic", {"C": 0.5}).fit(given)
    z = (given.x - given.x.mean(axis=0)) / given.x.std(axis=0)
    wanted = LogisticRegression(C=0.5, max_iter=200).fit(z, given.y).predict_proba(z)
    assert np.allclose(softmax(fitted.logits(given.x), axis=1), wanted, atol=1e-3)


def test_a_feature_that_never_changes_does_not_explode_for_a_new_image():
    given = problem()
    x = np.hstack([given.x, np.full((120, 1), 7.0, np.float32)])
    fitted = new_head("logistic", {}).fit(replace(given, x=x))
    other = x.copy()
    other[:, -1] = -1e6
    assert np.array_equal(fitted.logits(other), fitted.logits(x))


def test_whole_groups_are_left_out_where_settings_are_chosen():
    given = replace(problem(), groups=np.arange(120) // 10)
    parts = divided(given)
    assert len(parts) == 3
    for train, valid in parts:
        assert not set(given.groups[train]) & set(given.groups[valid])


def test_the_setting_of_the_least_loss_on_rows_left_out_is_chosen():
    given = problem()

    def fit(part, sign):
        center = np.stack([part.x[part.y == c].mean(axis=0) for c in range(3)])
        return lambda x: -sign * ((x[:, None] - center) ** 2).sum(axis=2)

    setting, factor = chosen(given, (-1.0, 0.0, 1.0), fit, scale=True)
    assert setting == 1.0
    assert factor > 0


def test_too_few_rows_take_the_middle_setting():
    few = problem(n=4, classes=4)
    assert chosen(few, ("weak", "middle", "strong"), None, scale=True) == ("middle", 1.0)


def test_several_labels_at_once_are_logits_of_sigmoids():
    one = fit_classes(new_head("logistic", {}), problem(classes=2))
    x = problem(classes=2, seed=1).x
    both = TargetHead((one, one), is_set=True).logits(x)
    logits = one.logits(x)
    assert np.allclose(both[:, 0], logits[:, 1] - logits[:, 0])


def test_rows_without_a_label_are_not_fitted_on():
    given = problem()
    unknown = given.y.copy()
    unknown[::2] = -1
    half = fit_classes(new_head("lda", {}), replace(given, y=unknown))
    alone = fit_classes(new_head("lda", {}), given.of_rows(np.arange(1, 120, 2)))
    assert np.array_equal(half.logits(given.x), alone.logits(given.x))
    with pytest.raises(TrainingError, match="no train row has a label"):
        fit_classes(new_head("lda", {}), replace(given, y=np.full(120, -1)))


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("logistc", {}, "did you mean 'logistic'"),
        ("knn", {"neighbours": 3}, "takes k, not neighbours"),
        ("knn", {"k": 0}, "whole number from 1 on"),
        ("sklearn.svm:SVCC", {}, "has no 'SVCC'"),
        ("sklearn.svm:LinearSVC", {}, "no fit and predict_proba"),
        (OWN, {"smooth": 1}, "unexpected keyword"),
        ("logistic", {"D": 1}, "unexpected keyword"),
        ("ridge", {"alpha": -1.0}, "cannot be fitted"),
    ],
)
def test_what_cannot_be_fitted_is_said_in_a_line(name, arguments, message):
    with pytest.raises(RequestError, match=message):
        new_head(name, arguments).fit(problem())


def test_a_head_of_an_extra_that_is_not_there_names_the_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "lightgbm", None)
    with pytest.raises(MissingExtraError, match="lightgbm"):
        boosting.LightGBM()


def test_balanced_weights_give_each_class_the_same_sum():
    weights = class_weights("balanced", np.array([80, 20]), ["a", "b"])
    assert weights[0] * 80 == pytest.approx(weights[1] * 20)
    assert (weights * [80, 20]).sum() == pytest.approx(100)


@pytest.fixture
def kept(tmp_path):
    heads = {"label": TargetHead((fit_classes(new_head("ridge", {}), problem()),), False)}
    path = tmp_path / "fold0.safetensors"
    assert write_heads(path, heads, {"fold": 0}) is None
    return path


def test_a_file_of_heads_predicts_as_before(kept):
    found = read_heads(kept)
    assert found.description["fold"] == 0
    wanted = fit_classes(new_head("ridge", {}), problem()).logits(problem().x)
    assert np.array_equal(found.heads["label"].logits(problem().x), wanted)


def test_an_altered_file_of_heads_is_refused(kept):
    content = bytearray(kept.read_bytes())
    content[-5] ^= 1
    kept.write_bytes(bytes(content))
    with pytest.raises(StoreError, match="altered after it was saved"):
        check_heads(kept)
    kept.write_bytes(bytes(content[:200]))
    with pytest.raises(StoreError, match="not a whole file of fitted heads"):
        read_heads(kept)


def test_a_kept_head_names_no_code_to_run(kept):
    state = read_heads(kept).heads["label"].state
    values = json.loads(json.dumps(state.values))
    values["head0"]["head"] = "os:system"
    with pytest.raises(RequestError, match="does not know"):
        TargetHead.from_state(State(state.arrays, values))


class Unkept(Layers):
    """A fitted head of another package."""


def test_what_cannot_be_kept_says_so_when_it_is_to_predict(tmp_path):
    fitted = fit_classes(new_head("ridge", {}), problem())
    lost = Unkept(fitted.fitted.matrices, fitted.fitted.biases)
    heads = {"label": TargetHead((replace(fitted, fitted=lost),), is_set=False)}
    path = tmp_path / "fold0.safetensors"
    assert "Unkept is of a kind that is not kept" in write_heads(path, heads, {"fold": 0})
    check_heads(path)
    with pytest.raises(StoreError, match=r"keeps no fitted head .* it cannot predict"):
        read_heads(path)


def test_a_file_that_names_code_is_read_only_where_the_recipe_names_it(tmp_path):
    heads = {
        "label": TargetHead((fit_classes(new_head(OWN, {}), problem()),), is_set=False)
    }
    path = tmp_path / "fold0.safetensors"
    assert write_heads(path, heads, {"fold": 0}) is None
    with pytest.raises(StoreError, match=r"names code to run .* nothing of it was run"):
        read_heads(path)
    assert read_heads(path, [OWN]).heads


@pytest.mark.parametrize("is_set", [False, True])
def test_layers_of_a_target_are_its_logits(is_set):
    head = fit_classes(new_head("logistic", {}), problem(classes=2 if is_set else 3))
    target, x = TargetHead((head, head)[: 1 + is_set], is_set), problem().x
    assert np.allclose(target.layers.logits(x), target.logits(x), rtol=1e-3, atol=1e-3)
