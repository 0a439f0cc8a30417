import numpy as np
import pytest

from ensembler.blending import create_blend
from ensembler.blending.methods.loglinear import LogLinearPool
from ensembler.blending.methods.stacking import ShrunkStack
from ensembler.blending.testing import BlendContract, invented_pool
from ensembler.errors import RequestError
from ensembler.metrics import score


class TestShrunkStack(BlendContract):
    keeps_a_lone_member = False
    tolerance = 2e-2

    @pytest.fixture
    def method(self):
        return create_blend("stack", shrinkage=100.0)

    def test_with_endless_shrinkage_it_is_the_log_linear_pool(self):
        stack, y = invented_pool()
        got = ShrunkStack(shrinkage=1e9).fit(stack, y).predict_proba(stack)
        assert np.allclose(
            got, LogLinearPool().fit(stack, y).predict_proba(stack), atol=2e-3
        )

    def test_it_takes_a_classifier_of_scikit_learn(self):
        stack, y = invented_pool(rows=120)
        place = "sklearn.linear_model:LogisticRegression"
        assert (
            score(
                "accuracy",
                create_blend("stack", estimator=place).fit(stack, y).predict_proba(stack),
                y,
            )
            > 0.6
        )
        with pytest.raises(RequestError, match="no fit and predict_proba"):
            create_blend("stack", estimator=object()).fit(stack, y)

    def test_a_class_without_a_row_is_not_pushed_down(self):
        stack, y = invented_pool(4, 900, 5)
        seen = y != 3
        fitted = ShrunkStack(shrinkage=30.0).fit(stack[:, seen], y[seen])
        assert score("accuracy", fitted.predict_proba(stack[:, ~seen]), y[~seen]) > 0.5

    def test_the_search_for_a_shrinkage_goes_on_past_the_edge_of_its_grid(self):
        fitted = ShrunkStack().fit(*invented_pool(3, 300, 3))
        tried, best = list(fitted.shrinkage_scores_), fitted.shrinkage_
        assert best == min(tried, key=fitted.shrinkage_scores_.get)
        assert tried[0] < best < tried[-1] or best in (1.0, 30000.0)

    def test_a_shrinkage_is_judged_on_rows_that_its_pool_was_not_fitted_on(
        self, monkeypatch
    ):
        sizes = []
        plain = LogLinearPool.fit

        def counting(self, stack, y):
            sizes.append(len(y))
            return plain(self, stack, y)

        monkeypatch.setattr(LogLinearPool, "fit", counting)
        ShrunkStack().fit(*invented_pool(3, 300, 3))
        assert sizes == [300, 200, 200, 200]

    def test_a_class_that_no_fitted_row_has_gets_no_probability(self):
        stack, y = invented_pool(rows=120)
        method = create_blend("stack", estimator="sklearn.naive_bayes:GaussianNB").fit(
            stack[:, y < 2], y[y < 2]
        )
        assert method.predict_proba(stack)[:, 2].max() == 0
