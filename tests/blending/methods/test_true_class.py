import numpy as np
import pytest

from ensembler.blending.methods.true_class import true_class_column
from ensembler.blending.testing import invented_pool
from ensembler.errors import RequestError
from ensembler.metrics.probabilities import FLOOR


def test_each_member_gives_its_probability_of_the_true_class():
    stack, y = invented_pool()
    column = true_class_column(stack, y)
    expected = np.take_along_axis(stack, y[None, :, None], axis=2)[:, :, 0]
    assert np.array_equal(column, np.maximum(expected, np.float32(FLOOR)))


def test_a_hard_zero_is_raised_so_that_its_logarithm_is_finite():
    stack = np.eye(2, dtype=np.float32)[None, [0, 0]]
    assert true_class_column(stack, np.array([0, 1])).tolist() == [[1, np.float32(FLOOR)]]


def test_a_stack_that_holds_no_probabilities_is_refused_on_the_way():
    stack, y = invented_pool()
    with pytest.raises(RequestError, match=r"outside 0\.\.1"):
        true_class_column(3 * stack, y)
