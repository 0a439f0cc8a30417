import errno

import numpy as np
import pytest

from ensembler import npy
from ensembler.errors import DiskFullError
from ensembler.files import write_aside
from ensembler.npy import mapped_into


@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32])
def test_what_is_filled_is_an_array_that_numpy_opens(tmp_path, dtype):
    path = tmp_path / "a.npy"
    wanted = np.arange(24).reshape(2, 3, 4).astype(dtype)
    with write_aside(path) as file, mapped_into(file, wanted.shape, dtype) as array:
        assert not array.any()
        array[:] = wanted
    found = np.load(path, allow_pickle=False)
    assert found.dtype == dtype
    assert np.array_equal(found, wanted)


def test_a_full_disk_is_said_before_anything_is_filled(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(npy, "preallocate", full)
    path = tmp_path / "a.npy"
    with (
        pytest.raises(DiskFullError, match="no room left to write"),
        write_aside(path) as file,
        mapped_into(file, (2,), np.uint8),
    ):
        pytest.fail("there is nothing to fill")
    assert not path.exists()
