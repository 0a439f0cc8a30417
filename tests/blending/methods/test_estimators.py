"""A classifier in the scikit-learn style as the stack: made by name, and kept by skops or not at all."""

import sys

import numpy as np
import pytest

from ensembler.blending import create_blend
from ensembler.blending.methods import estimators
from ensembler.blending.spec import BlendSpec
from ensembler.blending.state import State
from ensembler.blending.testing import invented_pool
from ensembler.blends.apply import apply_blend
from ensembler.blends.blend import blend_run
from ensembler.errors import MissingExtraError, NotKeptError
from ensembler.progress import RecordedProgress

TREE = "sklearn.tree:DecisionTreeClassifier"


def fitted(estimator):
    stack, y = invented_pool(rows=90)
    return create_blend("stack", estimator=estimator).fit(stack, y)


@pytest.mark.parametrize(
    "estimator",
    [
        TREE,
        "gradient_boosting",
        "sklearn.ensemble:ExtraTreesClassifier",
        "sklearn.linear_model:LogisticRegression",
    ],
)
def test_an_estimator_is_kept_by_skops_to_the_last_bit(estimator):
    pytest.importorskip("skops")
    state = State.from_bytes(fitted(estimator).state().to_bytes())
    again = create_blend("stack", estimator=estimator).restore(state)
    unseen = invented_pool(rows=40, seed=1)[0]
    assert np.array_equal(
        fitted(estimator).predict_proba(unseen), again.predict_proba(unseen)
    )


def test_an_estimator_with_parts_that_skops_does_not_trust_is_not_kept():
    pytest.importorskip("skops")
    with pytest.raises(NotKeptError, match="a part that skops does not trust: sklearn"):
        fitted("sklearn.neighbors:KNeighborsClassifier").state()


def test_a_kept_estimator_with_a_strange_part_is_not_loaded(monkeypatch):
    pytest.importorskip("skops")
    state = fitted("sklearn.ensemble:ExtraTreesClassifier").state()
    monkeypatch.setattr(estimators, "TREES", ())
    with pytest.raises(Exception, match=r"sklearn.tree._tree.Tree, which is not run"):
        create_blend("stack", estimator="sklearn.ensemble:ExtraTreesClassifier").restore(
            state
        )


def test_without_skops_the_blend_is_not_kept_but_made_and_fitted_again(
    fake_run, monkeypatch
):
    monkeypatch.setitem(sys.modules, "skops.io", None)
    made = blend_run(fake_run, BlendSpec(method="stack", options={"estimator": TREE}))
    (warning,) = [w for w in made.result.warnings if w["code"] == "not_kept"]
    assert warning["message"] == (
        "the fitted blend is not kept: its estimator is kept by skops, which is not installed "
        "(extra 'skops'); it may be submitted, and is fitted again for new images"
    )
    assert fake_run.blend("stack").state is None
    assert "not_kept" in {w.code for w in fake_run.blend("stack").record.warnings}
    classes, progress = fake_run.classes("label"), RecordedProgress()
    test = {(name, "label"): fake_run.member(name).test(classes) for name in ("a", "b")}
    found = apply_blend(fake_run, "stack", test, code=[TREE], progress=progress)
    assert np.array_equal(found, made.result.test)
    assert len(progress.warnings) == 1


def test_restoring_without_skops_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "skops.io", None)
    shape = State.of({"n_members_": 4, "n_classes_": 3}).with_part("estimator", State())
    with pytest.raises(MissingExtraError, match="extra 'skops'"):
        create_blend("stack", estimator=TREE).restore(shape)
