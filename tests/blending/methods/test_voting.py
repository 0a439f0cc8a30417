import numpy as np
import pytest

from ensembler.blending import create_blend
from ensembler.blending.testing import BlendContract


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
        assert np.allclose(
            method.fit(stack, y).predict_proba(stack), voting.predict_proba(x)
        )


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


class TestBestMember(BlendContract):
    contains_members = True

    @pytest.fixture
    def method(self):
        return create_blend("single")


class TestWeightedVote(BlendContract):
    tolerance = 1.0  # the weights belong to the order of members

    @pytest.fixture
    def method(self):
        class AnyNumber(type(create_blend("weights", weights=[1.0]))):
            def fit(self, stack, y):
                self.weights = np.arange(1.0, len(np.atleast_3d(stack)) + 1)
                return super().fit(stack, y)

        return AnyNumber([1.0])
