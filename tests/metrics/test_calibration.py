import numpy as np
import pytest

from ensembler.metrics.calibration import expected_calibration_error, reliability


@pytest.fixture
def predictions():
    rng = np.random.default_rng(0)
    probs = rng.dirichlet([3.0, 1.0, 1.0], 500)
    y = np.array([rng.choice(3, p=row) for row in probs])
    return probs, y


def test_the_error_is_the_mean_over_bins_of_the_gap_weighed_by_their_size(predictions):
    probs, y = predictions
    rows = reliability(probs, y, bins=15)
    gaps = [row["n"] * abs(row["accuracy"] - row["confidence"]) for row in rows]
    assert expected_calibration_error(probs, y) == pytest.approx(sum(gaps) / len(y))


def test_every_row_lies_in_one_bin_and_its_confidence_within_the_bin(predictions):
    rows = reliability(*predictions)
    assert sum(row["n"] for row in rows) == 500
    assert all(row["low"] <= row["confidence"] <= row["high"] for row in rows)


def test_a_confidence_of_one_lies_in_the_last_bin():
    (row,) = reliability(np.eye(2), np.array([0, 0]), bins=10)
    assert (row["low"], row["high"], row["accuracy"]) == (0.9, 1.0, 0.5)


def test_certainty_that_is_always_wrong_has_the_largest_error():
    assert expected_calibration_error(np.eye(2), np.array([1, 0])) == pytest.approx(1)
