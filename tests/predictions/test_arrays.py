"""Arrays on disk, filled piece by piece."""

import numpy as np

from ensembler.predictions.arrays import fill_array


def test_an_array_is_filled_where_the_system_has_no_posix_fallocate(tmp_path, monkeypatch):
    monkeypatch.delattr("os.posix_fallocate")  # as on macOS
    with fill_array(tmp_path / "x.npy", (3, 4), np.float32) as array:
        array[1] = 2.0
    assert np.load(tmp_path / "x.npy").sum() == 8.0
