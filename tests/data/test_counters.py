import numpy as np
import pytest
from scipy import stats

from ensembler.data.counters import Streams, keys_of, mixed

ROWS = np.arange(4000)
NEVER = np.zeros(4000, np.int64)


def streams(parts=(0, 1, 2), rows=ROWS, draws=NEVER):
    return Streams(keys_of(parts, rows, draws))


def test_the_mixing_is_that_of_splitmix64():
    # the first numbers of the reference implementation for the seed 1234567
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    steps = 1234567 + np.arange(3, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    assert mixed(steps).tolist() == expected


def test_what_an_image_gets_depends_on_its_key_alone():
    alone = [
        streams(rows=ROWS[i : i + 1], draws=NEVER[:1]).unit("flip")[0] for i in (3, 17)
    ]
    assert streams().unit("flip")[[3, 17]].tolist() == alone


@pytest.mark.parametrize(
    "other",
    [
        streams(parts=(0, 1, 3)),
        streams(parts=(0, 2, 2)),
        streams(parts=(1, 1, 2)),
        streams(parts=(1, 0, 2)),
        streams(draws=NEVER + 1),
        streams(rows=ROWS + 1),
        streams().of("another transform"),
    ],
)
def test_seed_fold_epoch_row_draw_and_transform_give_independent_numbers(other):
    one = streams().unit("flip")
    assert abs(np.corrcoef(one, other.unit("flip"))[0, 1]) < 0.05
    assert stats.kstest(other.unit("flip"), "uniform").pvalue > 1e-3


def test_choices_are_as_likely_and_stay_in_bounds():
    counts = np.bincount(streams().choice("which", 5))
    assert len(counts) == 5
    assert stats.chisquare(counts).pvalue > 1e-3
