"""Every method meets the contract; each equals an independent reference."""

import subprocess
import sys

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import rankdata

from ensembler.blending import BLEND_METHODS, create_blend
from ensembler.blending.methods import greedy, loglinear
from ensembler.blending.methods.greedy import GreedySelection
from ensembler.blending.methods.loglinear import LogLinearPool
from ensembler.blending.methods.simplex import SimplexWeights, log_loss_optimum
from ensembler.blending.methods.stacking import ShrunkStack
from ensembler.blending.methods.true_class import true_class_column
from ensembler.blending.testing import BlendContract, invented_pool
from ensembler.errors import RequestError, UnknownNameError
from ensembler.logits import softmax
from ensembler.metrics import score


class TestSoftVote(BlendContract):
    @pytest.fixture
    def method(self):
        return create_blend("soft")

    def test_it_equals_scikit_learns_voting(self, method):
        from sklearn.ensemble import VotingClassifier
        from sklearn.linear_model import LogisticRegression
        from sklearn.naive_bayes import GaussianNB

        rng = np.random.default_rng(0)
        x, y = rng.normal(size=(60, 3)), np.arange(60) % 3
        voting = VotingClassifier(
            [("a", LogisticRegression()), ("b", GaussianNB())], voting="soft"
        ).fit(x, y)
        stack = np.stack([model.predict_proba(x) for model in voting.estimators_])
        assert np.allclose(method.fit(stack, y).predict_proba(stack), voting.predict_proba(x))


class TestHardVote(BlendContract):
    keeps_a_lone_member = False

    @pytest.fixture
    def method(self):
        return create_blend("hard")

    def test_the_most_frequent_class_wins_and_a_tie_goes_to_the_larger_mean(self, method):
        stack = np.array([[[0.9, 0.1, 0.0]], [[0.4, 0.6, 0.0]]])
        assert method.fit(stack, np.array([0])).predict_proba(stack).argmax() == 0
        third = np.array([[[0.49, 0.51, 0.0]]])
        stack = np.concatenate([stack, third])
        assert method.fit(stack, np.array([0])).predict_proba(stack).argmax() == 1


class TestGeometricMean(BlendContract):
    @pytest.fixture
    def method(self):
        return create_blend("geometric")

    def test_it_is_the_softmax_of_the_mean_logits(self, method):
        logits = np.random.default_rng(0).normal(size=(3, 20, 4))
        stack = softmax(logits)
        got = method.fit(stack, np.zeros(20, int)).predict_proba(stack)
        assert np.allclose(got, softmax(logits.mean(axis=0)))


class TestPowerMean(BlendContract):
    @pytest.fixture
    def method(self):
        return create_blend("power", power=0.5)

    def test_power_one_is_the_soft_vote_and_near_zero_the_geometric_mean(self):
        stack, y = invented_pool()
        for power, other in ((1.0, "soft"), (1e-4, "geometric")):
            got = create_blend("power", power=power).fit(stack, y).predict_proba(stack)
            assert np.allclose(
                got, create_blend(other).fit(stack, y).predict_proba(stack), atol=1e-3
            )


class TestMedian(BlendContract):
    @pytest.fixture
    def method(self):
        return create_blend("median")


class TestTrimmedMean(BlendContract):
    @pytest.fixture
    def method(self):
        return create_blend("trimmed_mean", share=0.25)


class TestRankMean(BlendContract):
    keeps_a_lone_member = False
    gives_probabilities = False
    tolerance = 0.05

    @pytest.fixture
    def method(self):
        return create_blend("rank")

    @pytest.mark.parametrize("classes", [2, 3, 5, 10])
    def test_in_each_class_samples_keep_the_order_of_their_mean_ranks(self, method, classes):
        stack, y = invented_pool(5, 700, classes, seed=classes, strength=0.6)
        mean_ranks = np.mean([rankdata(probs, axis=0) for probs in stack], axis=0)
        kept = np.asarray(self.fit(method, stack, y), np.float32)  # as the store keeps it
        assert score("roc_auc_ovr", kept, y) == pytest.approx(
            score("roc_auc_ovr", mean_ranks, y), abs=1e-12
        )
        for c in range(classes):
            assert np.array_equal(
                rankdata(kept[:, c]), rankdata(mean_ranks[:, c].astype(np.float32))
            )

    def test_the_decided_class_is_the_one_of_the_largest_mean_rank(self, method):
        stack, y = invented_pool(5, 300, 4)
        mean_ranks = np.mean([rankdata(probs, axis=0) for probs in stack], axis=0)
        assert np.array_equal(self.fit(method, stack, y).argmax(axis=1), mean_ranks.argmax(axis=1))

    def test_rows_of_two_classes_sum_to_one(self, method):
        stack, y = invented_pool(3, 50, 2)
        assert np.allclose(self.fit(method, stack, y).sum(axis=1), 1)


class TestBestMember(BlendContract):
    contains_members = True

    @pytest.fixture
    def method(self):
        return create_blend("single")


class TestHillClimbing(BlendContract):
    contains_members = True
    tolerance = 0.05  # it climbs member by member, in their order

    @pytest.fixture
    def method(self):
        return create_blend("hill_climb")


class TestSimplexWeights(BlendContract):
    contains_members = True

    @pytest.fixture
    def method(self):
        return create_blend("simplex")

    @pytest.mark.parametrize("seed", range(5))
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
        near = np.clip(q * (1 + 1e-5 * rng.normal(size=q.shape)), 1e-7, 1).astype(np.float32)
        column = np.concatenate([q, near, q[:2]])
        weights, gap = log_loss_optimum(column, 1e-6)
        exact = column.astype(np.float64)
        assert gap <= 1e-6
        assert (exact / (weights @ exact)).mean(axis=1).max() - 1 <= gap + 1e-7

    def test_a_duplicated_member_changes_nothing(self, method):
        stack, y = invented_pool()
        doubled = np.concatenate([stack, stack[:1]])
        assert np.allclose(self.fit(method, stack, y), self.fit(method, doubled, y), atol=1e-3)

    def test_the_brier_optimum_beats_every_member_and_the_soft_vote(self):
        stack, y = invented_pool()
        best = SimplexWeights(metric="brier").fit(stack, y).predict_proba(stack)
        others = [*stack, stack.mean(axis=0)]
        assert all(score("brier", best, y) <= score("brier", other, y) + 1e-9 for other in others)


def full_search(stack, y, metric, rounds):
    """Caruana's loop, plainly: every candidate evaluated in every round, ties as we promise them."""
    losses = [score("log_loss", np.clip(p, 1e-7, 1), y) for p in stack]
    sign = -1 if metric == "log_loss" else 1
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
        total = total + (np.clip(stack[best], 1e-7, None) if metric == "log_loss" else stack[best])
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
        assert (GreedySelection(rounds=40, max_members=2).fit(stack, y).weights_ > 0).sum() <= 2

    def test_auc_is_searched_plainly(self):
        stack, y = invented_pool(3, 80, 2)
        fitted = GreedySelection(metric="roc_auc_ovr", rounds=5).fit(stack, y)
        best = max(score("roc_auc_ovr", p, y) for p in stack)
        assert score("roc_auc_ovr", fitted.predict_proba(stack), y) >= best - 1e-9

    def test_options_that_make_no_sense_are_refused(self):
        with pytest.raises(RequestError, match="rounds is 0, expected a whole number from 1"):
            GreedySelection(rounds=0).fit(*invented_pool())

    def test_where_a_score_does_not_exist_the_member_is_not_taken(self, monkeypatch):
        """Whichever way is better: for a loss, too, no score at all is worse than any."""
        stack, y = invented_pool(3, 80, 2)
        scores = iter([np.nan, 0.4, 0.9, 0.9, 0.3, np.nan])
        monkeypatch.setattr(greedy, "score", lambda *_: next(scores))
        fitted = GreedySelection(metric="brier", rounds=2).fit(stack, y)
        assert [pick.member for pick in fitted.picks_] == [1, 1]


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
        assert objective(np.concatenate([fitted.weights_, fitted.bias_])) <= generic.fun + 1e-5

    def test_logits_as_they_are_give_the_same_as_their_probabilities(self):
        rng = np.random.default_rng(0)
        stack, y = invented_pool()
        logits = (np.log(stack) + rng.normal(size=(4, 400, 1))).astype(np.float32)
        a = LogLinearPool(ridge=1e-3).fit(stack, y).predict_proba(stack)
        b = LogLinearPool(ridge=1e-3, inputs="logits").fit(logits, y).predict_proba(logits)
        assert np.allclose(a, b, atol=2e-3)

    def test_nonnegative_keeps_weights_at_or_above_zero(self):
        stack, y = invented_pool(6)
        assert (LogLinearPool(ridge=1e-3, nonnegative=True).fit(stack, y).weights_ >= 0).all()

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
                "log_loss", as_probs.predict_proba(np.concatenate([stack, softmax(noise)])), y
            )
            assert score("log_loss", fitted.predict_proba(given), y) == pytest.approx(
                expected, abs=0.01
            )
            assert fitted.converged_

    def test_a_search_that_ends_early_is_not_called_converged(self, monkeypatch):
        stack, y = invented_pool()
        assert LogLinearPool(ridge=1e-3).fit(stack, y).converged_
        monkeypatch.setattr(loglinear.LogLinearProblem, "solve", lambda self, *_, **__: self.start)
        assert not LogLinearPool(ridge=1e-3).fit(stack, y).converged_

    def test_an_endless_ridge_is_the_geometric_mean(self):
        stack, y = invented_pool()
        got = LogLinearPool(ridge=1e6).fit(stack, y).predict_proba(stack)
        assert np.allclose(
            got, create_blend("geometric").fit(stack, y).predict_proba(stack), atol=1e-3
        )


class TestShrunkStack(BlendContract):
    keeps_a_lone_member = False
    tolerance = 2e-2

    @pytest.fixture
    def method(self):
        return create_blend("stack", shrinkage=100.0)

    def test_with_endless_shrinkage_it_is_the_log_linear_pool(self):
        stack, y = invented_pool()
        got = ShrunkStack(shrinkage=1e9).fit(stack, y).predict_proba(stack)
        assert np.allclose(got, LogLinearPool().fit(stack, y).predict_proba(stack), atol=2e-3)

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

    def test_a_shrinkage_is_judged_on_rows_that_its_pool_was_not_fitted_on(self, monkeypatch):
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


class TestWeightedVote(BlendContract):
    tolerance = 1.0  # the weights belong to the order of members

    @pytest.fixture
    def method(self):
        class AnyNumber(type(create_blend("weights", weights=[1.0]))):
            def fit(self, stack, y):
                self.weights = np.arange(1.0, len(np.atleast_3d(stack)) + 1)
                return super().fit(stack, y)

        return AnyNumber([1.0])


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [
        ("greedy", "rounds", "many"),
        ("greedy", "rounds", 2.5),
        ("greedy", "rounds", True),
        ("greedy", "max_members", 0),
        ("greedy", "time_limit", "soon"),
        ("hill_climb", "step", 0),
        ("hill_climb", "step", -0.2),
        ("hill_climb", "smallest", 0.0),
        ("hill_climb", "negative", "maybe"),
        ("power", "power", "a"),
        ("power", "power", 0),
        ("power", "power", float("inf")),
        ("trimmed_mean", "share", "half"),
        ("trimmed_mean", "share", 0.5),
        ("simplex", "tolerance", -1),
        ("simplex", "tolerance", "small"),
        ("loglinear", "ridge", float("nan")),
        ("loglinear", "ridge", None),
        ("loglinear", "ridge", "none"),
        ("loglinear", "ridge", -1),
        ("loglinear", "inputs", "logit"),
        ("loglinear", "nonnegative", "yes"),
        ("stack", "shrinkage", float("nan")),
        ("stack", "ridge", None),
        ("stack", "max_iterations", 0),
        ("weights", "weights", ["a", "b", "c", "d"]),
        ("weights", "weights", 2),
    ],
)
def test_an_option_of_no_meaning_is_refused_by_name(name, option, value):
    with pytest.raises(RequestError, match=rf"{option}|\d weights for 4 members"):
        create_blend(name, **{option: value}).fit(*invented_pool())


def test_a_method_says_what_it_is():
    assert repr(create_blend("greedy", rounds=5)).startswith("GreedySelection(")
    assert repr(create_blend("loglinear", ridge=0.1)) == "LogLinearPool(ridge=0.1)"
    assert repr(create_blend("soft")) == "SoftVote()"


def test_every_method_of_the_catalogue_loads_and_names_unknown_options():
    for name in BLEND_METHODS.names:
        with pytest.raises(RequestError, match="'nonsense' is not an option of the blend method"):
            create_blend(name, nonsense=1)
    with pytest.raises(UnknownNameError, match="did you mean 'greedy'"):
        create_blend("gredy")


def test_a_fresh_process_finds_the_same_bits():
    stack, y = invented_pool()
    found = [
        create_blend(name).fit(stack, y).predict_proba(stack).sum(axis=0).tolist()
        for name in ("greedy", "stack")
    ]
    script = (
        "from ensembler.blending import create_blend\n"
        "from ensembler.blending.testing import invented_pool\n"
        "stack, y = invented_pool()\n"
        "print([create_blend(n).fit(stack, y).predict_proba(stack).sum(axis=0).tolist() for n in "
        "('greedy', 'stack')])"
    )
    fresh = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout
    assert fresh.strip() == str(found)
