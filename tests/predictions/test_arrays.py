"""Arrays on disk, filled piece by piece."""

import numpy as np
import pytest

from ensembler.errors import DiskFullError, StoreError
from ensembler.predictions.arrays import fill_array, reserve_array


def test_an_array_is_filled_where_the_system_has_no_posix_fallocate(tmp_path, monkeypatch):
    monkeypatch.delattr("os.posix_fallocate")  # as on macOS
    with fill_array(tmp_path / "x.npy", (3, 4), np.float32) as array:
        array[1] = 2.0
    assert np.load(tmp_path / "x.npy").sum() == 8.0


def test_an_array_in_the_making_is_never_written_through_a_link(tmp_path):
    precious = tmp_path / "precious.npy"
    np.save(precious, np.ones((3, 4), np.float32))
    (tmp_path / "x.npy").symlink_to(precious)
    with pytest.raises(StoreError, match=r"x\.npy is a link"):
        reserve_array(tmp_path / "x.npy", (3, 4), np.float32)[:] = 0.0
    assert np.load(precious).sum() == 12.0


def test_an_array_that_does_not_fit_on_the_disk_says_what_it_needs(small_disk):
    with (
        pytest.raises(
            DiskFullError,
            match=r"no room left to write .*x\.npy: it needs 4\.0 MB and the disk of .* has 1",
        ),
        fill_array(small_disk / "x.npy", (1000, 1000), np.float32),
    ):
        pass
    assert list(small_disk.iterdir()) == []
