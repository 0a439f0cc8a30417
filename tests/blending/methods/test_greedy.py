import numpy as np
import pytest

from ensembler.blending import create_blend
from ensembler.blending.methods import greedy
from ensembler.blending.methods.greedy import GreedySelection
from ensembler.blending.testing import BlendContract, invented_pool
from ensembler.errors import RequestError
from ensembler.metrics import check_metric, score


def full_search(stack, y, metric, rounds):
    """Caruana's loop, plainly: every candidate evaluated in every round, ties as we promise them."""
    losses = [score("log_loss", np.clip(p, 1e-7, 1), y) for p in stack]
    sign = check_metric(metric).sign
    total, picks, used = np.zeros(stack.shape[1:]), [], set()
    for step in range(1, rounds + 1):
        values = []
        for probs in stack:
            mean = (
                (total + np.clip(probs, 1e-7, None)) / step
                if metric == "log_loss"
                else total + probs
            )
            if metric != "log_loss":
                mean = mean / mean.sum(axis=1, keepdims=True)
            values.append(sign * score(metric, mean, y))
        top = max(values)
        tied = [j for j, v in enumerate(values) if v >= top - 1e-12]
        best = min(tied, key=lambda j: (j not in used, losses[j], j))
        picks.append(best)
        used.add(best)
        total = total + (
            np.clip(stack[best], 1e-7, None) if metric == "log_loss" else stack[best]
        )
    return picks


class TestGreedySelection(BlendContract):
    contains_members = True

    @pytest.fixture
    def method(self):
        return create_blend("greedy", rounds=20)

    @pytest.mark.parametrize(
        "metric",
        [
            "log_loss",
            "accuracy",
            "balanced_accuracy",
            "f1_macro",
            "quadratic_kappa",
            "unweighted_kappa",
        ],
    )
    @pytest.mark.parametrize("shape", [(5, 300, 3), (12, 83, 4), (3, 40, 2)])
    def test_its_picks_are_those_of_the_full_search(self, metric, shape):
        stack, y = invented_pool(*shape, seed=sum(shape))
        fitted = GreedySelection(metric=metric, rounds=25).fit(stack.astype(np.float64), y)
        assert [pick.member for pick in fitted.picks_] == full_search(
            stack.astype(np.float64), y, metric, 25
        )

    def test_max_members_bounds_how_many_are_used(self):
        stack, y = invented_pool(8)
        assert (
            GreedySelection(rounds=40, max_members=2).fit(stack, y).weights_ > 0
        ).sum() <= 2

    def test_auc_is_searched_plainly(self):
        stack, y = invented_pool(3, 80, 2)
        fitted = GreedySelection(metric="roc_auc_ovr", rounds=5).fit(stack, y)
        best = max(score("roc_auc_ovr", p, y) for p in stack)
        assert score("roc_auc_ovr", fitted.predict_proba(stack), y) >= best - 1e-9

    def test_options_that_make_no_sense_are_refused(self):
        with pytest.raises(
            RequestError, match="rounds is 0, expected a whole number from 1"
        ):
            GreedySelection(rounds=0).fit(*invented_pool())

    def test_where_a_score_does_not_exist_the_member_is_not_taken(self, monkeypatch):
        """Whichever way is better: for a loss, too, no score at all is worse than any."""
        stack, y = invented_pool(3, 80, 2)
        scores = iter([np.nan, 0.4, 0.9, 0.9, 0.3, np.nan])
        monkeypatch.setattr(greedy, "score", lambda *_: next(scores))
        fitted = GreedySelection(metric="brier", rounds=2).fit(stack, y)
        assert [pick.member for pick in fitted.picks_] == [1, 1]
