import errno
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

import pytest

from ensembler.errors import DiskFullError, MissingFileError, RequestError, StoreError
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


HOLD = (
    "import pathlib, sys, time; from ensembler.files import write_aside\n"
    "with write_aside(pathlib.Path(sys.argv[1])) as f:\n"
    "    f.write(b'whole'); f.flush(); print('writing', flush=True); sys.stdin.read()"
)


def test_a_sweep_leaves_what_another_container_of_the_same_host_name_writes(tmp_path):
    """Its process numbers mean nothing here: number 1 there is another process here, and mostly it is none."""
    namespace = ["unshare", "--pid", "--fork", "--mount-proc"]
    if (
        subprocess.run([*namespace, "true"], check=False, capture_output=True).returncode
        != 0
    ):
        pytest.skip("no PID namespace can be made here")
    # A number in there that no process has out here.
    burn = "import os\nfor _ in range(300): os.waitpid(os.fork() or os._exit(0), 0)\n"
    writer = subprocess.Popen(
        [*namespace, sys.executable, "-c", f"{burn}\nif os.fork(): os.wait()\nelse: "
                                           f"exec({HOLD!r})", tmp_path / "x"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert writer.stdout is not None
    assert writer.stdout.readline() == "writing\n"
    sweep(tmp_path)
    writer.communicate("")
    assert (tmp_path / "x").read_bytes() == b"whole"
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


@pytest.fixture
def no_flock(monkeypatch):
    """A file system without locks, as some network disks are."""

    def flock(file, how):
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr("ensembler.files.fcntl.flock", flock)


def test_without_file_locks_only_what_nobody_has_touched_for_a_day_is_swept(
    tmp_path, no_flock
):
    names = [f".x.{'0' * 15}{i}.aside" for i in range(2)]
    for name in names:
        (tmp_path / name).write_bytes(b"half")
    long_ago = time.time() - 25 * 3600
    os.utime(tmp_path / names[0], (long_ago, long_ago))
    write_bytes(tmp_path / "y", b"whole")
    sweep(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {names[1], "y"}


def test_without_file_locks_a_claim_is_refused_in_one_line_and_leaves_nothing(
    tmp_path, no_flock
):
    with (
        pytest.raises(RequestError, match=r"without file locks .*--artifacts DIR"),
        claim(tmp_path / "lock"),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_removes_locks_nobody_holds_and_leaves_the_others(tmp_path):
    free, held, other = (
        tmp_path / "a" / ".fold0.lock",
        tmp_path / ".views.lock",
        tmp_path / "poetry.lock",
    )
    free.parent.mkdir()
    for path in (free, other):
        path.touch()
    with claim(held):
        sweep(tmp_path)
        assert held.exists()
    assert not free.exists()
    assert other.exists()


@pytest.fixture
def shared_folder():
    """A folder that the users of one group share."""
    if os.geteuid() != 0:
        pytest.skip("only root can be two users")
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        os.chown(folder, -1, GROUP)
        folder.chmod(0o2775)
        yield folder


GROUP = 12345


def as_user(user, umask, work):
    """Do `work` in a process of a user of the group; return how the process ended."""
    child = os.fork()
    if child == 0:
        os.setgroups([])
        os.setresgid(GROUP, GROUP, GROUP)
        os.setresuid(user, user, user)
        os.umask(umask)
        try:
            work()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.parametrize("umask", [0o002, 0o022])
def test_a_lock_that_a_killed_process_left_in_a_shared_folder_does_not_stop_its_group(
    shared_folder, umask
):
    def die_with_lock():
        with claim(shared_folder / ".lock"):
            os.kill(os.getpid(), signal.SIGKILL)

    def go_on():
        with claim(shared_folder / ".lock") as ours:
            assert ours

    assert as_user(65533, umask, die_with_lock) == -signal.SIGKILL
    assert (shared_folder / ".lock").exists()
    assert as_user(65534, umask, go_on) == 0
    assert list(shared_folder.iterdir()) == []


def test_a_folder_removed_between_its_making_and_the_lock_does_not_stop_a_claim(
    tmp_path, monkeypatch
):
    """Whoever is done last removes the folder of the locks, at the very moment that another one wants to lock."""
    folder, mkdir, removed = tmp_path / "a", Path.mkdir, []

    def mkdir_and_lose(path, *args, **options):
        mkdir(path, *args, **options)
        if len(removed) < 3:
            path.rmdir()
            removed.append(path)

    monkeypatch.setattr(Path, "mkdir", mkdir_and_lose)
    with claim(folder / ".lock") as ours:
        assert ours
    assert len(removed) == 3


def test_a_full_disk_is_named_with_what_is_needed_and_what_is_free(small_disk):
    (small_disk / "x").write_bytes(bytes(400_000))
    with pytest.raises(DiskFullError) as caught:
        write_bytes(small_disk / "big.bin", bytes(3_000_000))
    message = str(caught.value)
    assert f"no room left to write {small_disk / 'big.bin'}: it needs 3.0 MB" in message
    assert f"the disk of {small_disk} has 0.6 MB free" in message
    assert "--artifacts DIR" in message
    assert [path.name for path in small_disk.iterdir()] == ["x"]


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
        "with claim(pathlib.Path(sys.argv[1])) as ours:\n    print(ours, flush=True); "
        "time.sleep(60)"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(lock)], stdout=subprocess.PIPE, text=True
    )
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
