"""Files that the user names, where something is already."""

import os
import stat
import subprocess
import sys
import threading

import pytest

from ensembler.errors import RequestError
from ensembler.outputs import check_output, write_output


@pytest.fixture
def device(tmp_path):
    """A device like /dev/null, but one that nobody misses when it is lost."""
    if os.geteuid() != 0:
        pytest.skip("only root can make a device")
    os.mknod(tmp_path / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    return tmp_path / "null"


def test_a_device_is_written_into_and_stays_one(device):
    write_output(device, b"x")
    assert device.is_char_device()


def test_a_named_pipe_hands_on_what_is_written(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    read = []
    reader = threading.Thread(target=lambda: read.append((tmp_path / "pipe").read_bytes()))
    reader.start()
    write_output(tmp_path / "pipe", b"rows")
    reader.join(10)
    assert read == [b"rows"]
    assert (tmp_path / "pipe").is_fifo()


def test_a_link_stays_and_the_file_it_leads_to_is_replaced(tmp_path):
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "x.csv").write_bytes(b"old")
    (tmp_path / "far" / "x.csv").chmod(0o640)
    (tmp_path / "link.csv").symlink_to("far/x.csv")
    write_output(tmp_path / "link.csv", b"new")
    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "far" / "x.csv").read_bytes() == b"new"
    assert (tmp_path / "far" / "x.csv").stat().st_mode & 0o777 == 0o640


def test_a_link_to_nothing_makes_the_file_it_leads_to(tmp_path):
    (tmp_path / "link.csv").symlink_to("far/x.csv")
    write_output(tmp_path / "link.csv", b"new")
    assert (tmp_path / "far" / "x.csv").read_bytes() == b"new"


@pytest.mark.parametrize("place", ["a file", "a pipe"])
def test_standard_output_by_its_name_takes_its_turn(tmp_path, place):
    code = (
        "from pathlib import Path; from ensembler.outputs import write_output\n"
        "print('before'); write_output(Path('/dev/stdout'), b'rows\\n'); print('after')"
    )
    if place == "a pipe":
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
        assert done.stdout == b"before\nrows\nafter\n"
        return
    with (tmp_path / "out").open("wb") as file:
        subprocess.run([sys.executable, "-c", code], stdout=file, check=True)
    assert (tmp_path / "out").read_bytes() == b"before\nrows\nafter\n"


@pytest.mark.parametrize("name", [".", "loop", "file/x.csv", "file/deeper/x.csv"])
def test_what_cannot_become_a_file_is_refused_in_one_line(tmp_path, name):
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").touch()
    with pytest.raises(RequestError) as caught:
        check_output(tmp_path / name)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_outputs_of_commands_leave_devices_links_and_folders_as_they_are(
    ens_here, tmp_path, fake_run, device
):
    ens_here("blend", "fake", "--method", "soft")
    (tmp_path / "real.txt").touch()
    commands = [
        ("submit", "fake", "--blend", "soft", "--out"),
        ("diversity", "fake", "--html"),
    ]
    for command in commands:
        link = tmp_path / f"{command[0]}.link"
        link.symlink_to(tmp_path / "real.txt")
        ens_here(*command, device)
        ens_here(*command, link)
        assert link.is_symlink()
        assert (tmp_path / "real.txt").stat().st_size > 0
        assert "is a folder" in ens_here(*command, ".", expect=2).stderr
    (tmp_path / "soft_oof.csv").mkdir()
    assert "is a folder" in ens_here("export", "fake", "--blend", "soft", expect=2).stderr
    assert "is a folder" in ens_here("init", "digits", "--out", ".", expect=2).stderr
    ens_here("init", "digits", "--out", device)
    assert device.is_char_device()
