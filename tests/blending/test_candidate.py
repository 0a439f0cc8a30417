import numpy as np
import pytest

from ensembler.blending.calibration.calibrated import Calibrated
from ensembler.blending.candidate import Candidate
from ensembler.blending.testing import invented_pool


@pytest.mark.parametrize(
    ("candidate", "label"),
    [
        (Candidate("greedy"), "greedy"),
        (
            Candidate("stack", {"probabilities": True}, variant="with probabilities"),
            "stack with probabilities",
        ),
        (Candidate("soft", after="temperature"), "soft + temperature"),
        (
            Candidate("greedy", before="temperature", after="biases"),
            "temperature + greedy + biases",
        ),
    ],
)
def test_its_label_says_what_comes_before_and_after_the_method(candidate, label):
    assert candidate.label == label


def test_each_time_a_fresh_method_is_made():
    candidate = Candidate("power", {"power": 2.0})
    made = candidate.make()
    assert made is not candidate.make()
    assert made.power == 2.0


def test_a_calibration_goes_around_the_method():
    stack, y = invented_pool()
    made = Candidate("soft", after="temperature").make().fit(stack, y)
    assert isinstance(made, Calibrated)
    assert np.array_equal(made.predict_proba(stack).argmax(1), stack.mean(axis=0).argmax(1))


def test_weights_by_hand_are_those_of_the_members_that_are_kept():
    candidate = Candidate("weights", {"weights": [3.0, 0.0, 1.0]})
    assert candidate.of_members([0, 2]).options == {"weights": [3.0, 1.0]}
    assert candidate.of_members([1]).options == {"weights": [1.0]}  # all zero: all the same
    assert Candidate("greedy", {"rounds": 3}).of_members([1]).options == {"rounds": 3}
