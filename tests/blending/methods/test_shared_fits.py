import numpy as np
import pytest

import ensembler.blending.judging.automatic as automatic
from ensembler.blending.make import make_blend
from ensembler.blending.methods.loglinear import LogLinearPool
from ensembler.blending.methods.shared_fits import fitted_once, shared_fits
from ensembler.blending.pool import Pool, StackPart
from ensembler.blending.spec import BlendSpec
from ensembler.blending.testing import invented_pool

STACK, Y = invented_pool(3, 40, 3)


def results(*asked):
    """What a fit that counts its calls gives for each of the stacks, labels and options."""
    calls = []
    return [fitted_once(lambda: calls.append(1) or len(calls), *one) for one in asked]


def test_equal_predictions_labels_and_options_are_fitted_once():
    other_y, other = np.roll(Y, 1), STACK.copy()
    other[0, 0] = other[0, 0, ::-1]
    asked = [
        (STACK, Y, (1,)),
        (STACK.copy(), Y.copy(), (1,)),
        (StackPart(STACK), Y, (1,)),
        (STACK, Y, (2,)),
        (STACK, other_y, (1,)),
        (other, Y, (1,)),
        (STACK[:2], Y, (1,)),
    ]
    with shared_fits():
        assert results(*asked) == [1, 1, 1, 2, 3, 4, 5]


def test_nothing_is_remembered_outside_and_afterwards():
    with shared_fits():
        assert results((STACK, Y, ())) == [1]
    assert results((STACK, Y, ()), (STACK, Y, ())) == [1, 2]
    with shared_fits():
        assert results((STACK, Y, ())) == [1]


def test_a_fit_that_fails_is_tried_again():
    def fail():
        raise KeyboardInterrupt

    with shared_fits():
        with pytest.raises(KeyboardInterrupt):
            fitted_once(fail, STACK, Y, ())
        assert results((STACK, Y, ())) == [1]


def test_pools_fitted_once_share_no_arrays():
    with shared_fits():
        first, second = (LogLinearPool(1.0).fit(STACK, Y) for _ in range(2))
    assert np.array_equal(first.weights_, second.weights_)
    first.weights_[:] = 0
    first.bias_[:] = 0
    assert second.weights_.all()
    assert second.bias_.any()


def test_auto_finds_the_same_bits_with_and_without_sharing(monkeypatch):
    from contextlib import nullcontext

    stack, y = invented_pool(3, 120, 3)
    pool = Pool(("a", "b", "c"), stack, y, ("x", "y", "z"), np.arange(120) % 4)
    shared = make_blend(pool, BlendSpec())
    monkeypatch.setattr(automatic, "shared_fits", nullcontext)
    alone = make_blend(pool, BlendSpec())
    assert "stack with probabilities" in shared.details.candidates
    assert shared.details == alone.details
    assert np.array_equal(shared.oof, alone.oof)
    assert np.array_equal(shared.fitted_oof, alone.fitted_oof)
