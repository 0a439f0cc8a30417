import errno
import threading
import time

import pytest
import torch

from ensembler.errors import DiskFullError
from ensembler.training import state
from ensembler.training.state import StateKeeper, copied, read_state, write_state


def made(number):
    return {
        "job": "job",
        "weights": {"a": torch.full((3,), float(number))},
        "epochs": [number],
        "best": None,
    }


def kept(path):
    return None if (found := read_state(path, "job")) is None else found["epochs"][0]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "fold0.state"


def test_a_state_is_read_as_it_was_written_and_by_no_other_job(path):
    write_state(path, made(1))
    assert torch.equal(read_state(path, "job")["weights"]["a"], torch.ones(3))
    assert read_state(path, "another") is None


@pytest.mark.parametrize("at", [3, 40, -5])
def test_a_state_with_one_altered_bit_is_not_taken(path, at):
    write_state(path, made(1))
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)
    assert read_state(path, "job") is None


def test_a_copy_does_not_change_with_the_training():
    weights = torch.zeros(2)
    copy = copied({"network": {"w": weights}, "history": [{"loss": weights}], "n": 3})
    weights += 1
    assert float(copy["network"]["w"].sum()) == float(copy["history"][0]["loss"].sum()) == 0
    assert copy["n"] == 3


def test_the_first_state_is_written_and_then_one_now_and_then(path):
    with StateKeeper(path, every=3600) as keeper:
        for number in range(5):
            keeper.keep(made(number))
    assert kept(path) == 0
    with StateKeeper(path, every=0) as keeper:
        keeper._writing = None
        for number in range(5):
            keeper.keep(made(number))
            keeper._writing.result()
            keeper._began = -float("inf")
    assert kept(path) == 4


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_whatever_ends_the_training_the_last_epoch_is_kept(path, error):
    def train():
        with StateKeeper(path, every=3600) as keeper:
            for number in range(5):
                keeper.keep(made(number))
            raise error

    with pytest.raises(error):
        train()
    assert kept(path) == 4


def test_the_training_does_not_wait_for_a_slow_disk(path, monkeypatch):
    write, go_on = state.write_state, threading.Event()

    def slow(*given):
        go_on.wait(30)
        write(*given)

    monkeypatch.setattr(state, "write_state", slow)
    with StateKeeper(path, every=0) as keeper:
        for number in range(3):
            keeper.keep(made(number))  # would wait here for ever
        assert not path.exists()
        go_on.set()
    assert kept(path) == 0


def test_writing_takes_a_small_share_of_the_time(path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(state, "timed_write", lambda *_: 10.0)
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    written = []
    with StateKeeper(path, every=30) as keeper:
        for now[0] in range(0, 1000, 50):
            keeper.keep(made(0))
            keeper._writing.result()
            if keeper._unwritten is None:
                written.append(now[0])
    assert written == [0, 200, 400, 600, 800]


def test_a_disk_that_cannot_be_written_is_said(path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(state, "write_state", full)
    with pytest.raises(OSError, match="No space left"), StateKeeper(path) as keeper:
        keeper.keep(made(0))


def test_a_disk_that_is_full_is_said_as_that_and_not_as_torch_says_it(path, monkeypatch):
    """Of a write that fails torch says only that its archive is at another position than it should be."""
    usual = state._Hashing.write

    class Full:
        """A file on a disk with room for little."""

        def __init__(self, file):
            self.file, self.room = file, 900

        def write(self, content):
            self.room -= len(content)
            if self.room < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            return self.file.write(content)

    def write(self, content):
        if not isinstance(self._file, Full):
            self._file = Full(self._file)
        return usual(self, content)

    monkeypatch.setattr(state._Hashing, "write", write)
    with pytest.raises(DiskFullError, match="no room left to write"):
        write_state(path, {**made(1), "much": torch.zeros(5000)})
    assert not path.exists()
