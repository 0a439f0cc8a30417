import numpy as np
import pytest
from scipy.stats import rankdata

from ensembler.blending import create_blend
from ensembler.blending.testing import BlendContract, invented_pool
from ensembler.logits import softmax
from ensembler.metrics import score


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
    def test_in_each_class_samples_keep_the_order_of_their_mean_ranks(
        self, method, classes
    ):
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
        assert np.array_equal(
            self.fit(method, stack, y).argmax(axis=1), mean_ranks.argmax(axis=1)
        )

    def test_rows_of_two_classes_sum_to_one(self, method):
        stack, y = invented_pool(3, 50, 2)
        assert np.allclose(self.fit(method, stack, y).sum(axis=1), 1)
