"""Arrays in temporary files, on disks that are too small for them."""

import subprocess
import sys

import numpy as np
import pytest

from ensembler.files import preallocate
from ensembler.machine.memory import on_disk

FILL = """
import sys
from ensembler.errors import DiskFullError
from ensembler.machine.memory import on_disk
try:
    on_disk((1_000_000,))[:] = 1.0
except DiskFullError as error:
    print(error)
"""


def test_a_temporary_disk_that_is_full_is_an_error_with_advice_and_not_a_crash(small_disk):
    done = subprocess.run(
        [sys.executable, "-c", FILL], env={"TMPDIR": str(small_disk), "PYTHONPATH": ":".join(sys.path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.returncode}: {done.stderr}"
    assert str(small_disk) in done.stdout
    assert "4.0 MB" in done.stdout
    assert "TMPDIR" in done.stdout
    assert "ENS_STACK_MEMORY" in done.stdout


@pytest.mark.parametrize("system", ["with posix_fallocate", "without"])
def test_room_is_reserved_and_what_is_there_stays(tmp_path, monkeypatch, system):
    if system == "without":  # as on macOS
        monkeypatch.delattr("os.posix_fallocate")
    with (tmp_path / "x").open("wb") as file:
        file.write(b"header")
        preallocate(file, 3_000_000)
    content = (tmp_path / "x").read_bytes()
    assert content == b"header" + bytes(3_000_000 - 6)
    assert (tmp_path / "x").stat().st_blocks * 512 >= 3_000_000


def test_without_posix_fallocate_a_full_disk_is_found_all_the_same(small_disk, monkeypatch):
    monkeypatch.delattr("os.posix_fallocate")
    with (
        (small_disk / "x").open("wb") as file,
        pytest.raises(OSError, match="No space left"),
    ):
        preallocate(file, 3_000_000)


def test_an_array_on_disk_is_zero_and_takes_what_is_written():
    array = on_disk((3, 5))
    array[1] = 2.0
    assert array.dtype == np.float32
    assert array.sum() == 10.0
