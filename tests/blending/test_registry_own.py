"""A method from another package, or of the user's own, is as good as a shipped one."""

import numpy as np
import pytest

from ensembler.blending import Pool, make_blend
from ensembler.blending.fitted import FittedBlend
from ensembler.blending.methods.base import Blender
from ensembler.blending.registry import BLEND_METHODS, create_blend, method_class
from ensembler.blending.spec import BlendSpec
from ensembler.blending.state import State
from ensembler.blending.testing import BlendContract, invented_pool
from ensembler.blends.apply import apply_blend
from ensembler.blends.blend import blend_run
from ensembler.errors import RequestError

OWN = '''
import numpy as np
from ensembler.blending.methods.base import Blender


class BestTwo(Blender):
    """The mean of the two members that are right most often, with a bonus for them."""

    zero_weight_is_absent = True
    takes_votes = True
    keeps = ("bonus_",)

    def __init__(self, bonus=0.1):
        self.bonus = bonus

    def fit(self, stack, y):
        stack, y = self._enter(stack, y)
        right = [(probs.argmax(axis=1) == y).mean() for probs in stack]
        self.weights_ = np.zeros(len(stack))
        self.weights_[np.argsort(right)[-2:]] = 1 / min(2, len(stack))
        self.bonus_ = np.float64(self.bonus)
        return self

    def learned(self):
        return {"bonus": float(self.bonus_)}

    def predict_proba(self, stack):
        stack = self._known(stack)
        total = sum(w * stack[m] for m, w in enumerate(self.weights_) if w) + self.bonus_
        return total / total.sum(axis=1, keepdims=True)
'''


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "best_two_of_mine.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    return "best_two_of_mine:BestTwo"


class Halves(Blender):
    """The mean of the first half of the members."""

    needs_fit = False

    def fit(self, stack, y):
        self._enter(stack, y)
        return self

    def predict_proba(self, stack):
        stack = self._known(stack)
        return stack[: (len(stack) + 1) // 2].mean(axis=0, dtype=np.float64)


class TestHalves(BlendContract):
    tolerance = 1.0  # it goes by the order of the members

    @pytest.fixture
    def method(self):
        return Halves()


@pytest.fixture
def entry_point(monkeypatch):
    class Entry:
        name = "halves"

        def load(self):
            return Halves

    monkeypatch.setitem(BLEND_METHODS.__dict__, "_added", {"halves": Entry()})


def pool(**changes):
    stack, y = invented_pool()
    test = tuple(probs[None, :50] for probs in stack)
    return Pool(tuple("abcd"), stack, y, ("x", "y", "z"), y * 0, test=test, **changes)


def test_a_method_of_another_package_says_that_it_needs_no_fit(entry_point):
    result = make_blend(pool(), BlendSpec(method="halves"))
    assert np.array_equal(result.oof, result.fitted_oof)  # nothing was cross-fitted
    again = FittedBlend.from_state(State.from_bytes(result.blend.state().to_bytes()))
    assert np.array_equal(again.predict(pool().test), result.test)


def test_a_method_of_ones_own_takes_votes_and_shows_what_it_learned(own):
    result = make_blend(
        pool(votes_only=("d",)), BlendSpec(method=own, options={"bonus": 0.2})
    )
    assert "votes_only" not in {warning["code"] for warning in result.warnings}
    assert result.members == tuple("abcd")
    assert result.details.model_extra["bonus"] == 0.2
    assert result.name == "BestTwo"


def test_a_method_of_ones_own_is_kept_and_applied_where_it_is_named(own, fake_run):
    made = blend_run(fake_run, BlendSpec(method=own, calibrate="temperature"))
    classes = fake_run.classes("label")
    test = {(name, "label"): fake_run.member(name).test(classes) for name in ("a", "b")}
    assert np.array_equal(apply_blend(fake_run, "BestTwo", test, [own]), made.result.test)
    with pytest.raises(RequestError, match="what a record names is not run"):
        apply_blend(fake_run, "BestTwo", test)


def test_the_command_announces_and_imports_a_method_of_ones_own(own, ens_here, fake_run):
    done = ens_here("blend", fake_run.folder, "--method", own, "--option", "bonus=0.3")
    assert f"uses code of yours: {own}" in done.stderr
    assert "blend BestTwo" in done.stdout
    assert fake_run.blend("BestTwo").record.method == own


def test_what_a_class_lacks_is_named(tmp_path, monkeypatch):
    (tmp_path / "half_a_method.py").write_text(
        "class Mine:\n    def fit(self, s, y): ...\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        RequestError, match=r"has no predict_proba, learned, .*Blender needs only"
    ):
        method_class("half_a_method:Mine")


def test_an_option_that_a_method_of_ones_own_does_not_have_is_an_error(own):
    with pytest.raises(
        RequestError, match=r"'bonsu' is not an option .* did you mean 'bonus'"
    ):
        create_blend(own, bonsu=1)
