"""Calibration before and after a blend."""

import numpy as np
import pytest

from ensembler.blending.calibration import Calibrated, apply_vector, fit_vector
from ensembler.blending.registry import create_blend
from ensembler.blending.testing import BlendContract, invented_pool
from ensembler.metrics import score


class TestCalibrated(BlendContract):
    keeps_a_lone_member = False
    contains_members = False

    @pytest.fixture(params=["temperature", "vector"])
    def method(self, request):
        return Calibrated(create_blend("soft"), request.param, request.param)


def bent(seed=0):
    """Probabilities of which one class is always claimed too often."""
    stack, y = invented_pool(1, 900, 3, seed)
    probs = stack[0] * [3.0, 1.0, 0.4]
    return probs / probs.sum(axis=1, keepdims=True), y


def test_vector_scaling_takes_out_the_bias_of_a_class():
    probs, y = bent()
    after = apply_vector(probs, fit_vector(probs, y))
    assert score("log_loss", after, y) < score("log_loss", probs, y) - 0.05
    assert np.abs(after.mean(axis=0) - np.bincount(y) / len(y)).max() < 0.01


@pytest.mark.parametrize("rows", [1, 2, 5, 40])
def test_no_calibration_makes_the_fitted_rows_worse(rows):
    stack, y = invented_pool(2, 40, 3, seed=rows)
    probs, y = stack[0][:rows], y[:rows]
    assert score("log_loss", apply_vector(probs, fit_vector(probs, y)), y) <= score("log_loss", probs, y) + 1e-9


def test_members_are_calibrated_before_they_are_blended():
    probs, y = bent()
    stack = np.stack([probs, invented_pool(1, 900, 3, 0)[0][0]])
    plain = create_blend("soft").fit(stack, y).predict_proba(stack)
    fitted = Calibrated(create_blend("soft"), "none", "vector").fit(stack, y).predict_proba(stack)
    assert score("log_loss", fitted, y) < score("log_loss", plain, y)
