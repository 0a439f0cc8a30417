import numpy as np
import pytest
from scipy.optimize import minimize

from ensembler.blending import create_blend
from ensembler.blending.methods import loglinear
from ensembler.blending.methods.loglinear import LogLinearPool
from ensembler.blending.testing import BlendContract, invented_pool
from ensembler.logits import softmax
from ensembler.metrics import score


class TestLogLinearPool(BlendContract):
    keeps_a_lone_member = False
    tolerance = 1e-2

    @pytest.fixture
    def method(self):
        return create_blend("loglinear", ridge=1e-3)

    @pytest.mark.parametrize("shape", [(3, 300, 3), (10, 5000, 4)])
    def test_it_equals_a_generic_fit(self, shape):
        stack, y = invented_pool(*shape)
        fitted = LogLinearPool(ridge=1e-3).fit(stack, y)
        logs = np.log(stack.astype(float))
        scale2 = np.maximum(logs.var(axis=2).mean(axis=1), 1e-12)
        members, classes = shape[0], shape[2]

        def objective(theta):
            w, b = theta[:members], theta[members:]
            p = softmax(np.tensordot(w, logs, 1) + b)
            penalty = 1e-3 * (((w - 1 / members) ** 2 * scale2).sum() + (b**2).sum()) / 2
            return -np.log(p[np.arange(len(y)), y]).mean() + penalty

        generic = minimize(
            objective, np.zeros(members + classes), method="BFGS", options={"gtol": 1e-7}
        )
        assert (
            objective(np.concatenate([fitted.weights_, fitted.bias_])) <= generic.fun + 1e-5
        )

    def test_logits_as_they_are_give_the_same_as_their_probabilities(self):
        rng = np.random.default_rng(0)
        stack, y = invented_pool()
        logits = (np.log(stack) + rng.normal(size=(4, 400, 1))).astype(np.float32)
        a = LogLinearPool(ridge=1e-3).fit(stack, y).predict_proba(stack)
        b = LogLinearPool(ridge=1e-3, inputs="logits").fit(logits, y).predict_proba(logits)
        assert np.allclose(a, b, atol=2e-3)

    def test_nonnegative_keeps_weights_at_or_above_zero(self):
        stack, y = invented_pool(6)
        assert (
            LogLinearPool(ridge=1e-3, nonnegative=True).fit(stack, y).weights_ >= 0
        ).all()

    def test_a_ridge_is_chosen_by_cross_fitting_and_the_scores_are_kept(self):
        fitted = LogLinearPool().fit(*invented_pool())
        assert fitted.ridge_ == min(fitted.ridge_scores_, key=fitted.ridge_scores_.get)

    def test_a_class_without_a_row_keeps_the_mean_bias_and_is_not_pushed_down(self):
        stack, y = invented_pool(4, 600, 5)
        seen = y != 3
        fitted = LogLinearPool(ridge=1e-4).fit(stack[:, seen], y[seen])
        assert fitted.bias_[3] == 0
        assert fitted.bias_[[0, 1, 2, 4]].mean() == pytest.approx(0, abs=1e-9)
        assert score("accuracy", fitted.predict_proba(stack[:, ~seen]), y[~seen]) > 0.5

    @pytest.mark.parametrize("size", [1e2, 1e4])
    def test_logits_of_any_size_are_fitted_like_their_probabilities(self, size):
        rng = np.random.default_rng(0)
        stack, y = invented_pool(5, 800, 4)
        logits = np.log(stack)
        noise = rng.normal(size=(1, 800, 4))
        as_probs = LogLinearPool().fit(np.concatenate([stack, softmax(noise)]), y)
        mixed = np.concatenate([logits, size * noise]).astype(np.float32)
        for given in (np.concatenate([logits, noise]) * size, mixed):
            fitted = LogLinearPool(inputs="logits").fit(given, y)
            expected = score(
                "log_loss",
                as_probs.predict_proba(np.concatenate([stack, softmax(noise)])),
                y,
            )
            assert score("log_loss", fitted.predict_proba(given), y) == pytest.approx(
                expected, abs=0.01
            )
            assert fitted.converged_

    def test_a_search_that_ends_early_is_not_called_converged(self, monkeypatch):
        stack, y = invented_pool()
        assert LogLinearPool(ridge=1e-3).fit(stack, y).converged_
        monkeypatch.setattr(
            loglinear.LogLinearProblem, "solve", lambda self, *_, **__: self.start
        )
        assert not LogLinearPool(ridge=1e-3).fit(stack, y).converged_

    def test_an_endless_ridge_is_the_geometric_mean(self):
        stack, y = invented_pool()
        got = LogLinearPool(ridge=1e6).fit(stack, y).predict_proba(stack)
        assert np.allclose(
            got, create_blend("geometric").fit(stack, y).predict_proba(stack), atol=1e-3
        )
