"""What a label is, in one object."""

import dataclasses

import numpy as np
import pytest

from ensembler.targets.label_sets import SetFormat
from ensembler.targets.target import Target

ONE = Target("label", ("cat", "dog"))
SETS = Target("tags", ("cat", "dog"), SetFormat(" ", "none"))
PROBS = np.array([[0.4, 0.6], [0.5, 0.5], [0.1, 0.2]])


def test_a_target_encodes_what_samples_csv_holds():
    assert ONE.encode(["dog", None]).tolist() == [1, -1]
    assert SETS.encode(["cat|dog", "|", None]).tolist() == [[1, 1], [0, 0], [-1, -1]]
    for target, cells in ((ONE, ["dog", None]), (SETS, ["cat", None])):
        assert target.known(target.encode(cells)).tolist() == [True, False]
        assert not target.known(target.unknown(3)).any()
        with pytest.raises(KeyError, match="bird"):
            target.encode(["bird"])


def test_an_answer_is_written_as_a_submission_holds_it():
    assert ONE.write(PROBS) == ["dog", "cat", "dog"]
    assert SETS.write(PROBS) == ["dog", "cat dog", "none"]
    assert SETS.decide(PROBS).tolist() == [[0, 1], [1, 1], [0, 0]]


def test_probabilities_sum_to_one_or_are_each_a_sigmoid():
    logits = np.array([[0.0, 2.0]])
    assert np.allclose(ONE.probs(logits).sum(axis=1), 1)
    assert np.allclose(SETS.probs(logits), 1 / (1 + np.exp(-logits)))


def test_strata_are_those_of_the_kind():
    assert ONE.strata(["cat", "dog", None]) == ["cat", "dog", None]
    assert SETS.strata(["cat", "cat|dog"]) == ["cat", "dog"]
    assert SETS.strata_codes(["cat", "cat|dog"]).tolist() == [0, 1]


def test_a_target_is_a_frozen_value():
    assert Target("label", ("cat", "dog")) == ONE
    assert len({ONE, SETS, Target("label", ("cat", "dog"))}) == 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        ONE.name = "other"
