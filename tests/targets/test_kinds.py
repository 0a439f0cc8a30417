"""Both kinds of targets answer the same questions; what differs between them stands here alone."""

import copy
import pickle

import numpy as np
import pytest

from ensembler.targets.kinds import MULTI_LABEL, SINGLE_LABEL, kind_of, kind_written_as
from ensembler.targets.label_sets import SetFormat

KINDS = [SINGLE_LABEL, MULTI_LABEL]
LOGITS = np.random.default_rng(0).normal(0, 3, (4, 7, 3)).astype(np.float32)


@pytest.mark.parametrize("kind", KINDS)
def test_a_copy_and_one_from_another_process_is_the_kind_itself(kind):
    assert copy.deepcopy(kind) is kind
    assert pickle.loads(pickle.dumps(kind)) is kind


def test_the_shape_of_labels_and_a_format_tell_the_kind():
    assert kind_of(np.zeros(3, np.int64)) is SINGLE_LABEL
    assert kind_of(np.zeros((3, 2), np.int64)) is MULTI_LABEL
    assert kind_written_as(None) is SINGLE_LABEL
    assert kind_written_as(SetFormat(" ")) is MULTI_LABEL


@pytest.mark.parametrize(
    ("kind", "cells", "names", "has_b", "labels"),
    [
        (SINGLE_LABEL, ["b", None, "a"], {"a", "b"}, [True, False, False], [1, -1, 0]),
        (
            MULTI_LABEL,
            ["a|b", None, "|"],
            {"a", "b"},
            [True, False, False],
            [[1, 1], [-1, -1], [0, 0]],
        ),
    ],
)
def test_cells_are_read(kind, cells, names, has_b, labels):
    assert kind.names_in(cells) == names
    assert kind.has_any(cells, ["b"]).tolist() == has_b
    assert kind.encode(cells, ["a", "b"]).tolist() == labels
    assert kind_of(kind.encode(cells, ["a", "b"])) is kind
    with pytest.raises(KeyError, match="b"):
        kind.encode(cells, ["a"])


@pytest.mark.parametrize("kind", KINDS)
def test_unknown_labels_and_columns_fit_the_shape_of_labels(kind):
    labels = kind.unknown(4, 3)
    assert (labels == -1).all()
    assert kind_of(labels) is kind
    columns = labels.reshape(4, -1)
    assert columns.shape[1] == kind.n_columns(3)
    assert kind.from_columns(columns).shape == labels.shape


def test_strata_are_labels_or_the_rarest_of_a_set():
    assert SINGLE_LABEL.strata(["a", None, "b"], 5) == ["a", None, "b"]
    assert SINGLE_LABEL.strata_codes(["b", None, "a"], ["a", "b"]).tolist() == [1, -1, 0]
    assert MULTI_LABEL.strata(["a", "a|b", "|"], 1) == ["a", "b", "(no label)"]
    assert MULTI_LABEL.strata_codes(["a", "a|b", None, "a"], ["a", "b"]).tolist() == [
        0,
        1,
        -1,
        0,
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_logits_and_probabilities_are_inverse_up_to_what_cancels(kind):
    probs = kind.probs(LOGITS[0])
    assert np.allclose(kind.probs(kind.logits(probs)), probs)
    assert np.isfinite(kind.logits(np.zeros((1, 3)))).all()


@pytest.mark.parametrize("kind", KINDS)
def test_logits_of_a_mean_are_those_of_the_mean_probabilities(kind):
    mean = np.mean([kind.probs(view) for view in LOGITS], axis=0)
    assert np.allclose(kind.probs(kind.logits_of_mean(LOGITS)), mean, atol=1e-6)
    assert np.allclose(kind.mean(mean * len(LOGITS), len(LOGITS)), mean)


def test_a_decision_is_a_class_or_every_label_from_a_half():
    probs = np.array([[0.6, 0.4, 0.0], [0.5, 0.5, 0.2]])
    assert SINGLE_LABEL.decide(probs).tolist() == [0, 0]
    assert MULTI_LABEL.decide(probs).tolist() == [[1, 0, 0], [1, 1, 0]]
    assert SINGLE_LABEL.votes(probs).tolist() == [[1, 0, 0], [1, 0, 0]]
    assert MULTI_LABEL.votes(probs).tolist() == [[1, 0, 0], [1, 1, 0]]


def test_the_most_confident_row_of_a_group_wins_or_each_label_its_largest_value():
    probs = np.array([[0.6, 0.4], [0.1, 0.9], [0.9, 0.1], [0.3, 0.7]])
    groups = np.array([0, 0, 0, 1])
    single = SINGLE_LABEL.most_confident(probs, groups, 2)
    assert single.tolist() == [[0.1, 0.9], [0.3, 0.7]]  # the first of equals
    assert MULTI_LABEL.most_confident(probs, groups, 2).tolist() == [[0.9, 0.9], [0.3, 0.7]]


def test_the_least_probability_counts_that_a_label_is_absent():
    probs = np.array([[0.25, 1.0]])
    assert (SINGLE_LABEL.least(probs), SINGLE_LABEL.answers(2)) == (0.25, 2)
    assert (MULTI_LABEL.least(probs), MULTI_LABEL.answers(7)) == (0.0, 2)


def test_what_moved_and_what_is_decided_otherwise_is_counted_by_row():
    before = np.array([[0.9, 0.1], [0.6, 0.4]])
    after = np.array([[0.9, 0.1], [0.2, 0.8]])
    assert np.allclose(SINGLE_LABEL.moved(before, after), [0, 0.4])
    assert np.allclose(MULTI_LABEL.moved(before, after), [0, 0.4])
    assert SINGLE_LABEL.decides_otherwise(before, after).tolist() == [False, True]
    low = np.array([[0.9, 0.1], [0.7, 0.3]])
    assert SINGLE_LABEL.decides_otherwise(before, low).tolist() == [False, False]
    one_label = np.array([[0.9, 0.6], [0.6, 0.4]])
    assert MULTI_LABEL.decides_otherwise(before, one_label).tolist() == [True, False]
    assert np.allclose(MULTI_LABEL.moved(before, one_label), [0.25, 0])
