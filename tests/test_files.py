import os
import signal
import subprocess
import sys

import pytest

from ensembler.errors import MissingFileError, StoreError
from ensembler.files import claim, read_json, sweep, write_aside, write_bytes, write_json


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "x.txt"
    write_bytes(path, b"old")
    with pytest.raises(RuntimeError), write_aside(path) as file:
        file.write(b"half of the n")
        raise RuntimeError
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_writer_killed_in_mid_write_leaves_the_old_file_and_the_next_run_sweeps(tmp_path):
    path = tmp_path / "x.txt"
    write_bytes(path, b"old")
    code = (
        "import os, pathlib, sys; from ensembler.files import write_aside\n"
        "with write_aside(pathlib.Path(sys.argv[1])) as f:\n"
        "    f.write(b'new'); f.flush(); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert path.read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 2
    sweep(tmp_path)
    assert list(tmp_path.iterdir()) == [path]


def test_a_sweep_leaves_what_the_living_write(tmp_path):
    with write_aside(tmp_path / "x") as file:
        sweep(tmp_path)
        file.write(b"whole")
    assert (tmp_path / "x").read_bytes() == b"whole"


def test_a_claim_is_held_once_and_leaves_no_file(tmp_path):
    lock = tmp_path / "lock"
    with claim(lock) as first, claim(lock) as second:
        assert first
        assert not second
    assert not lock.exists()


def test_the_claim_of_a_dead_process_is_free_at_once(tmp_path):
    lock = tmp_path / "lock"
    code = (
        "import pathlib, sys, time; from ensembler.files import claim\n"
        "with claim(pathlib.Path(sys.argv[1])) as ours:\n    print(ours, flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(lock)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "True\n"
    with claim(lock) as ours:
        assert not ours
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    holder.stdout.close()
    with claim(lock) as ours:
        assert ours


@pytest.mark.parametrize("content", [b"[]", b"{", b"\xff\xfe", b"[" * 100_000])
def test_odd_json_is_an_error_that_names_the_file(tmp_path, content):
    (tmp_path / "member.json").write_bytes(content)
    with pytest.raises(StoreError, match=r"member\.json"):
        read_json(tmp_path / "member.json")


def test_missing_json_is_a_file_not_found_error(tmp_path):
    with pytest.raises(MissingFileError, match=r"gone\.json is missing") as caught:
        read_json(tmp_path / "gone.json")
    assert isinstance(caught.value, FileNotFoundError)


def test_json_keeps_its_order_and_its_letters(tmp_path):
    write_json(tmp_path / "x.json", {"b": "é", "a": [1, None]})
    assert read_json(tmp_path / "x.json") == {"b": "é", "a": [1, None]}
    assert (tmp_path / "x.json").read_text().startswith('{\n  "b": "é"')
