import numpy as np
import pytest

from ensembler.blending.pruning import near_twins
from ensembler.blending.testing import invented_pool


@pytest.fixture
def pool():
    """Three members; the fourth is the first with a little noise, and so a little worse."""
    stack, y = invented_pool(3)
    blurred = 0.98 * stack[0] + 0.02 / 3
    return np.concatenate([stack, blurred[None]]), y


def test_the_worse_of_two_near_members_is_left_out_for_the_better(pool):
    stack, y = pool
    twins = near_twins(stack, y, 0.02, "log_loss")
    ((left_out, twin),) = twins.items()
    assert {left_out, twin.member} == {0, 3}
    expected = np.abs(stack[0] - stack[3]).sum(axis=1).mean() / 2
    assert twin.distance == pytest.approx(expected, abs=1e-6)


def test_at_distance_zero_nothing_is_near(pool):
    assert near_twins(*pool, 0.0, "log_loss") == {}


def test_at_the_largest_distance_the_best_member_alone_is_kept(pool):
    stack, y = pool
    twins = near_twins(stack, y, 1.1, "accuracy")
    best = int(np.argmax([(probs.argmax(axis=1) == y).mean() for probs in stack]))
    assert set(twins) == set(range(4)) - {best}
    assert {twin.member for twin in twins.values()} == {best}
