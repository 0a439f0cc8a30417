import numpy as np
import pytest

from ensembler.errors import RequestError
from ensembler.training.sampling import draw_rows, epoch_size

ROWS = np.arange(100, 200)
LABELS = np.repeat([0, 1, 2], [60, 30, 10])


def drawn(sampler, labels=LABELS, **options):
    rows = draw_rows(ROWS, labels, sampler, np.random.default_rng(0), **options)
    assert set(rows) <= set(ROWS)
    return rows


def shares(rows, labels=LABELS):
    return np.bincount(labels[rows - 100], minlength=3) / len(rows)


@pytest.mark.parametrize("sampler", ["none", "balanced", "sqrt", "effective", "up", "down"])
def test_an_epoch_is_as_long_as_was_said(sampler):
    assert len(drawn(sampler)) == epoch_size(sampler, LABELS)


@pytest.mark.parametrize(
    ("sampler", "expected"),
    [
        ("balanced", [1, 1, 1]),
        ("sqrt", [60**0.5, 30**0.5, 10**0.5]),
        ("none", [60, 30, 10]),
    ],
)
def test_classes_come_in_the_shares_that_the_sampler_promises(sampler, expected):
    expected = np.array(expected) / np.sum(expected)
    assert np.abs(shares(drawn(sampler)) - expected).max() <= 0.02


def test_up_repeats_every_row_equally_often_and_down_repeats_none():
    up, down = drawn("up"), drawn("down")
    times = np.bincount(up - 100)[LABELS == 2]
    assert (len(up), len(down)) == (180, 30)
    assert times.tolist() == [6] * 10
    assert len(set(down)) == 30


def test_rows_without_a_label_are_no_class():
    labels = np.where(np.arange(100) < 20, -1, LABELS)
    assert (np.isin(np.arange(100, 120), drawn("down", labels))).all()
    share = (labels[drawn("balanced", labels) - 100] == -1).mean()
    assert share == pytest.approx(0.2, abs=0.02)  # the mean chance


def test_weights_draw_rows_in_their_proportion():
    weights = np.where(LABELS == 2, 3.0, 0.0)
    rows = drawn("weights", weights=weights)
    assert shares(rows).tolist() == [0, 0, 1]
    assert np.bincount(rows - 190).tolist() == [10] * 10
    with pytest.raises(RequestError, match="sum to 0"):
        drawn("weights", weights=np.zeros(100))
