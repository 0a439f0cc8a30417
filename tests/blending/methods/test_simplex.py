import numpy as np
import pytest
from fuzz import some
from scipy.optimize import minimize

from ensembler.blending import create_blend
from ensembler.blending.methods.simplex import SimplexWeights, log_loss_optimum
from ensembler.blending.methods.true_class import true_class_column
from ensembler.blending.testing import BlendContract, invented_pool
from ensembler.metrics import score


class TestSimplexWeights(BlendContract):
    contains_members = True

    @pytest.fixture
    def method(self):
        return create_blend("simplex")

    @pytest.mark.parametrize("seed", range(some(2, 20)))
    @pytest.mark.parametrize("shape", [(3, 200, 3), (8, 60, 4), (15, 2000, 2)])
    def test_it_is_the_optimum_of_a_slow_general_solver_and_its_gap_bounds_the_excess(
        self, seed, shape
    ):
        stack, y = invented_pool(*shape, seed=seed)
        q = true_class_column(stack, y).astype(float)
        fitted = SimplexWeights(tolerance=1e-7).fit(stack, y)
        total = {"type": "eq", "fun": lambda w: w.sum() - 1}
        slow = minimize(
            lambda w: -np.log(np.maximum(w @ q, 1e-300)).mean(),
            np.full(len(q), 1 / len(q)),
            jac=lambda w: -(q / (w @ q)).mean(axis=1),
            bounds=[(0, 1)] * len(q), constraints=[total], options={"ftol": 1e-14, "maxiter": 1000},
        )  # fmt: skip
        loss = -np.log(fitted.weights_ @ q).mean()
        assert fitted.weights_.sum() == pytest.approx(1)
        assert (fitted.weights_ >= 0).all()
        assert loss <= slow.fun + 1e-6
        assert loss - slow.fun <= fitted.gap_ + 1e-6

    def test_its_certificate_holds_on_many_rows_with_members_that_are_nearly_the_same(self):
        rng = np.random.default_rng(0)
        q = np.clip(rng.beta(2, 1, (6, 20_000)), 1e-7, 1).astype(np.float32)
        near = np.clip(q * (1 + 1e-5 * rng.normal(size=q.shape)), 1e-7, 1).astype(
            np.float32
        )
        column = np.concatenate([q, near, q[:2]])
        weights, gap = log_loss_optimum(column, 1e-6)
        exact = column.astype(np.float64)
        assert gap <= 1e-6
        assert (exact / (weights @ exact)).mean(axis=1).max() - 1 <= gap + 1e-7

    def test_a_duplicated_member_changes_nothing(self, method):
        stack, y = invented_pool()
        doubled = np.concatenate([stack, stack[:1]])
        assert np.allclose(
            self.fit(method, stack, y), self.fit(method, doubled, y), atol=1e-3
        )

    def test_the_brier_optimum_beats_every_member_and_the_soft_vote(self):
        stack, y = invented_pool()
        best = SimplexWeights(metric="brier").fit(stack, y).predict_proba(stack)
        others = [*stack, stack.mean(axis=0)]
        assert all(
            score("brier", best, y) <= score("brier", other, y) + 1e-9 for other in others
        )
