import json
import subprocess
import sys

import pytest

from ensembler.predictions.publish import replacing


def write(folder, version):
    (folder / "oof.npy").write_text(version)
    (folder / "test.npy").write_text(version)
    (folder / "blend.json").write_text(json.dumps(version))


def state(entry):
    record = entry / "blend.json"
    return json.loads(record.read_text()) if record.exists() else None


@pytest.fixture
def entry(tmp_path):
    folder = tmp_path / "run" / "blends" / "mine"
    with replacing(folder, tmp_path / "run" / ".lock") as prepared:
        write(prepared, "old")
    return folder


def test_a_replacement_takes_its_place_and_leaves_nothing_behind(entry, tmp_path):
    with replacing(entry, tmp_path / "run" / ".lock") as prepared:
        write(prepared, "new")
    assert state(entry) == "new"
    assert sorted(p.name for p in entry.iterdir()) == ["blend.json", "oof.npy", "test.npy"]
    assert not (tmp_path / "run" / ".lock").exists()


def test_an_error_while_preparing_leaves_the_old_version(entry, tmp_path):
    with (
        pytest.raises(RuntimeError),
        replacing(entry, tmp_path / "run" / ".lock") as prepared,
    ):
        (prepared / "oof.npy").write_text("new")
        raise RuntimeError
    assert state(entry) == "old"
    assert not (entry / ".next").exists()


DIE_AT_EVERY_STEP = """
import os, sys
from pathlib import Path
from ensembler.predictions.publish import finish_replacements, replacing

run = Path(sys.argv[1])
entry, lock = run / "blends" / "mine", run / ".lock"

def write(version):
    with replacing(entry, lock) as prepared:
        for name in ("oof.npy", "test.npy", "blend.json"):
            (prepared / name).write_text(version)

def die_before_operation(n):
    count = 0
    def counted(real):
        def operation(*arguments, **options):
            nonlocal count
            count += 1
            if count == n:
                os._exit(9)
            return real(*arguments, **options)
        return operation
    for name in ("open", "replace", "unlink", "mkdir", "rmdir", "fsync"):
        setattr(os, name, counted(getattr(os, name)))

for n in range(1, 200):
    write("old")
    child = os.fork()
    if not child:
        die_before_operation(n)
        write("new")
        os._exit(0)
    died = os.waitpid(child, 0)[1] != 0
    finish_replacements(run, lock)
    found = {(entry / name).read_text() for name in ("oof.npy", "test.npy", "blend.json")}
    assert len(found) == 1, (n, found)
    assert not (entry / ".next").exists(), n
    if not died:
        assert found == {"new"}
        break
print(n)
"""


def test_any_instant_of_a_replacement_is_good_to_die(tmp_path):
    """Killed before the n-th operation on a file, for every n.

    The next start finds the old version or the new one.
    """
    done = subprocess.run(
        [sys.executable, "-c", DIE_AT_EVERY_STEP, str(tmp_path / "run")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert 10 < int(done.stdout) < 199
