import numpy as np
import pytest

from ensembler.predictions.compare import FoldLogits, compare_logits
from ensembler.targets.kinds import MULTI_LABEL, SINGLE_LABEL


def logits(seed, rows=6):
    return np.random.default_rng(seed).normal(size=(2, rows, 3)).astype(np.float32)


def test_the_same_logits_are_identical():
    one = FoldLogits(logits(0), logits(1))
    found = compare_logits(one, one, np.array([0, 1, 2, -1, 0, 1]), SINGLE_LABEL)
    assert found.is_identical
    assert (found.max_difference, found.mean_difference, found.other_labels) == (0, 0, 0)
    assert found.log_loss_then == found.log_loss_now > 0


def test_one_moved_row_is_measured():
    then = FoldLogits(np.zeros((1, 4, 2)), np.zeros((1, 0, 2)))
    moved = np.zeros((1, 4, 2))
    moved[0, 0, 1] = np.log(3)  # 0.5, 0.5 becomes 0.25, 0.75
    found = compare_logits(then, FoldLogits(moved, then.test), np.full(4, -1), SINGLE_LABEL)
    assert not found.is_identical
    assert found.max_difference == pytest.approx(np.log(3))
    assert found.mean_difference == pytest.approx(0.25 / 4)
    assert found.other_labels == 0.25
    assert found.log_loss_then is None


def test_of_several_labels_each_is_a_question():
    then = FoldLogits(np.full((1, 2, 3), -1.0), np.zeros((1, 0, 3)))
    moved = then.oof.copy()
    moved[0, 0, 0] = 1.0
    labels = np.zeros((2, 3), np.int64)
    found = compare_logits(then, FoldLogits(moved, then.test), labels, MULTI_LABEL)
    assert found.other_labels == 0.5
    assert found.log_loss_now > found.log_loss_then
