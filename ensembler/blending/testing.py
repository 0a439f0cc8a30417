"""The tests that every blend method must pass.

Inherit `BlendContract`, give it a `method`, and pytest does the rest.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ensembler.blending.pool import Stack, Targets
from ensembler.blending.registry import BlendMethod
from ensembler.blending.state import State
from ensembler.errors import NotFittedError, RequestError
from ensembler.logits import softmax
from ensembler.metrics import score


def invented_pool(
    members: int = 4,
    rows: int = 400,
    classes: int = 3,
    seed: int = 0,
    strength: float = 1.5,
) -> tuple[Stack, Targets]:
    """A stack `[members, rows, classes]` whose members lean to the label.

    They do so unequally, and with errors they share.
    """
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, rows)
    y[:classes] = np.arange(classes)
    shared = rng.normal(size=(rows, classes))
    lean = strength * rng.uniform(0.5, 1.2, members)
    logits = [
        shared + rng.normal(size=(rows, classes)) + w * np.eye(classes)[y] for w in lean
    ]
    return softmax(np.array(logits)).astype(np.float32), y


class BlendContract:
    """The contract.

    `contains_members` says that every single member is in the family, so that a fit can only gain,
    and `keeps_a_lone_member` that a pool of one member gives that member. Scores that are no
    probabilities stay within 0 and 1 all the same, but their rows need not sum to one.
    """

    contains_members = False
    keeps_a_lone_member = True
    gives_probabilities = True
    metric = "log_loss"
    tolerance = 2e-3  # how far a fit may move for want of convergence, not of correctness

    @pytest.fixture
    def method(self) -> BlendMethod:
        """Make the method to be tested, not fitted yet."""
        raise AssertionError("give the contract a fixture called method")

    def fit(self, method: BlendMethod, stack: Stack, y: Targets) -> NDArray[np.float64]:
        """Probabilities of a fresh copy of `method` on the rows it was fitted on."""
        return np.asarray(copy.deepcopy(method).fit(stack, y).predict_proba(stack))

    def test_rows_are_probabilities(self, method: BlendMethod) -> None:
        stack, y = invented_pool()
        probs = self.fit(method, stack, y)
        assert probs.shape == stack.shape[1:]
        assert (probs >= 0).all()
        assert (probs <= 1 + 1e-6).all()
        if self.gives_probabilities:
            assert np.allclose(probs.sum(axis=1), 1, atol=1e-5)

    def test_the_order_of_members_does_not_matter(self, method: BlendMethod) -> None:
        stack, y = invented_pool()
        assert np.allclose(
            self.fit(method, stack, y),
            self.fit(method, stack[::-1], y),
            atol=self.tolerance,
        )

    def test_the_order_of_rows_does_not_matter(self, method: BlendMethod) -> None:
        stack, y = invented_pool()
        order = np.random.default_rng(1).permutation(len(y))
        mixed = self.fit(method, stack[:, order], y[order])
        assert np.allclose(self.fit(method, stack, y)[order], mixed, atol=self.tolerance)

    def test_one_member_alone_gives_that_member(self, method: BlendMethod) -> None:
        if not self.keeps_a_lone_member:
            pytest.skip("this method changes a member that is alone")
        stack, y = invented_pool()
        assert np.allclose(self.fit(method, stack[:1], y), stack[0], atol=1e-5)

    def test_predicting_before_fitting_is_refused(self, method: BlendMethod) -> None:
        with pytest.raises(NotFittedError, match="not fitted yet"):
            copy.deepcopy(method).predict_proba(invented_pool()[0])

    @pytest.mark.parametrize("given", [2, 6])
    def test_another_number_of_members_is_refused(
        self, method: BlendMethod, given: int
    ) -> None:
        stack, y = invented_pool()
        fitted = copy.deepcopy(method).fit(stack, y)
        with pytest.raises(RequestError, match=f"^{given} members for .*fitted on 4"):
            fitted.predict_proba(invented_pool(given)[0])

    def test_labels_may_be_a_list_or_of_any_whole_type(self, method: BlendMethod) -> None:
        stack, y = invented_pool(classes=3)
        expected = self.fit(method, stack, y)
        others: list[Any] = [y.tolist(), y.astype(np.uint8), y.astype(np.int32)]
        for labels in others:
            assert np.array_equal(expected, self.fit(method, stack, labels))

    def test_the_state_gives_back_the_fitted_method_to_the_last_bit(
        self, method: BlendMethod
    ) -> None:
        stack, y = invented_pool()
        fitted = copy.deepcopy(method).fit(stack, y)
        state = State.from_bytes(fitted.state().to_bytes())
        restored = copy.deepcopy(method).restore(state)
        unseen = invented_pool(seed=1)[0]
        assert np.array_equal(fitted.predict_proba(unseen), restored.predict_proba(unseen))

    def test_there_is_no_state_before_fitting(self, method: BlendMethod) -> None:
        with pytest.raises(NotFittedError, match="not fitted yet"):
            copy.deepcopy(method).state()

    def test_what_was_learned_is_plain(self, method: BlendMethod) -> None:
        stack, y = invented_pool()
        learned = copy.deepcopy(method).fit(stack, y).learned()
        assert isinstance(json.dumps(learned), str)

    def test_a_method_without_a_member_is_fitted_on_the_others(
        self, method: BlendMethod
    ) -> None:
        stack, y = invented_pool()
        smaller = copy.deepcopy(method).fit(stack, y).without(1)
        others = stack[[0, 2, 3]]
        assert np.isfinite(smaller.fit(others, y).predict_proba(others)).all()

    def test_a_member_of_weight_zero_is_absent_where_the_method_says_so(
        self, method: BlendMethod
    ) -> None:
        stack, y = invented_pool()
        fitted = copy.deepcopy(method).fit(stack, y)
        if not fitted.zero_weight_is_absent or not (fitted.weights_ == 0).any():
            pytest.skip("no member is absent")
        unread = stack.copy()
        unread[fitted.weights_ == 0] = np.nan
        assert np.array_equal(fitted.predict_proba(stack), fitted.predict_proba(unread))

    def test_what_needs_no_fit_takes_nothing_from_the_labels(
        self, method: BlendMethod
    ) -> None:
        if method.needs_fit:
            pytest.skip("it learns from labels")
        stack, y = invented_pool()
        assert np.array_equal(
            self.fit(method, stack, y), self.fit(method, stack, (y + 1) % 3)
        )

    def test_inputs_are_left_alone(self, method: BlendMethod) -> None:
        stack, y = invented_pool()
        before = stack.copy(), y.copy()
        self.fit(method, stack, y)
        assert np.array_equal(stack, before[0])
        assert np.array_equal(y, before[1])

    def test_the_same_fit_twice_gives_the_same_bits(self, method: BlendMethod) -> None:
        stack, y = invented_pool()
        assert np.array_equal(self.fit(method, stack, y), self.fit(method, stack, y))

    @pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
    def test_any_float_type_is_taken(self, method: BlendMethod, dtype: type) -> None:
        stack, y = invented_pool()
        probs = self.fit(method, stack.astype(dtype), y)
        assert np.abs(probs - self.fit(method, stack, y)).mean() < 0.02

    @pytest.mark.parametrize(
        ("members", "rows", "classes"), [(1, 40, 2), (2, 30, 2), (12, 10, 3), (3, 6, 6)]
    )
    def test_small_pools_do_not_break_it(
        self, method: BlendMethod, members: int, rows: int, classes: int
    ) -> None:
        stack, y = invented_pool(members, rows, classes)
        assert np.isfinite(self.fit(method, stack, y)).all()

    def test_hard_zeros_and_ties_do_not_break_it(self, method: BlendMethod) -> None:
        stack, y = invented_pool()
        hot = np.eye(3, dtype=np.float32)[stack.argmax(axis=2)]
        assert np.isfinite(self.fit(method, hot, y)).all()
        assert np.isfinite(self.fit(method, np.full_like(stack, 1 / 3), y)).all()

    def test_it_is_never_worse_than_its_best_member_on_the_fitted_rows(
        self, method: BlendMethod
    ) -> None:
        if not self.contains_members:
            pytest.skip("this method may do worse than a member")
        stack, y = invented_pool()
        best = min(score("log_loss", probs, y) for probs in stack)
        assert score("log_loss", self.fit(method, stack, y), y) <= best + 1e-6

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda s, y: (s[0], y), r"a stack is \[members, samples, classes\]"),
            (lambda s, y: (s * 3, y), "outside 0..1"),
            (lambda s, y: (s * np.nan, y), "NaN or infinite"),
            (lambda s, y: (s, y[:-1]), "labels for 400 samples"),
            (lambda s, y: (s, y + 1), "labels are class indices from 0 to 2"),
            (lambda s, y: ((s > 0.5).astype(int), y), "floating-point"),
        ],
    )
    def test_what_does_not_fit_is_refused_at_the_door(
        self, method: BlendMethod, change: Callable[..., Any], message: str
    ) -> None:
        with pytest.raises(RequestError, match=message):
            self.fit(method, *change(*invented_pool()))
