"""The submission is the file that its record names, whatever happens while it is written."""

import hashlib
import json
import subprocess
import sys

import pandas as pd
import pytest

from ensembler.blends.submit import submission_spec, submit_blend, submit_run
from ensembler.evaluation.ls import list_run
from ensembler.reporting.submitted import is_as_recorded, submitted_blend
from ensembler.reporting.versions import submission_versions
from ensembler.run import Run


@pytest.fixture
def run(fake_run):
    """A run with two blends whose submissions differ; that of `one` was made by hand."""
    run = Run(fake_run)
    run.blend("weights", name="one", weights={"a": 1.0}, members=["a"])
    run.blend("weights", name="two", weights={"b": 1.0}, members=["b"])
    submit_run(run.store, "one")
    return run


def digest(store):
    return hashlib.sha256(store.submission_path.read_bytes()).hexdigest()


def submission_of(store, name):
    return pd.read_csv(submit_run(store, name, out=store.folder / "out.csv").path)


@pytest.mark.parametrize("content", [b"", b"id,label\n", b"id,label\ns0060,cat\n"])
def test_a_submission_that_is_altered_or_cut_short_is_written_again(run, content):
    store = run.store
    wanted = digest(store)
    store.submission_path.write_bytes(content)
    assert submitted_blend(store) is None
    assert list_run(store).submission_altered
    done = submit_run(store)
    assert done.blend == "one"
    assert digest(store) == wanted == submission_versions(store)[-1].sha256
    assert submitted_blend(store) == "one"
    kept = list(store.folder.glob("submission.altered-*.csv"))
    assert [path.read_bytes() for path in kept] == ([content] if content else [])
    assert len(done.notes) == len(kept)


def test_an_older_version_in_place_of_the_newest_is_told_from_it(run):
    store = run.store
    old = store.submission_path.read_bytes()
    submit_run(store, "two")
    newest = digest(store)
    # as when the disk was full before the new one was written
    store.submission_path.write_bytes(old)
    assert submitted_blend(store) == "one"
    assert not is_as_recorded(store)
    assert submit_run(store).blend == "two"
    assert digest(store) == newest
    assert len(submission_versions(store)) == 2
    assert not list(store.folder.glob("submission.altered-*"))


STOP_AT_EVERY_STEP = """
import errno, hashlib, json, os, shutil, sys
from pathlib import Path
from ensembler.blends.submit import submission_spec, submit_blend
from ensembler.reporting.submitted import is_as_recorded, submitted_blend
from ensembler.predictions.store import RunStore

folder, full = Path(sys.argv[1]), sys.argv[2] == "full"
store = RunStore(folder)
record, made = folder / "submission.json", folder / "submission.csv"
spec = submission_spec(store)

def content(name):
    submit_blend(store, name, spec, by_hand=True)
    return made.read_bytes()

by_content = {content(name): name for name in ("two", "one")}
before = record.read_bytes(), made.read_bytes()

count = 0

def stop_before_operation(n):
    def counted(real):
        def operation(*arguments, **options):
            global count
            count += 1
            if count == n and full:
                raise OSError(errno.ENOSPC, "No space left on device")
            if count == n:
                os._exit(9)
            return real(*arguments, **options)
        return operation
    for name in ("open", "replace", "unlink", "mkdir", "rmdir", "fsync"):
        setattr(os, name, counted(getattr(os, name)))

for n in range(1, 200):
    record.write_bytes(before[0]); made.write_bytes(before[1])
    child = os.fork()
    if not child:
        stop_before_operation(n)
        try:
            submit_blend(store, "two", spec, by_hand=True)
        except OSError:
            pass
        os._exit(9 if count >= n else 0)
    stopped = os.waitpid(child, 0)[1] != 0
    there = by_content[made.read_bytes()]  # never anything else
    assert submitted_blend(store) == there, (n, there)
    assert stopped or is_as_recorded(store), n
    submit_blend(store, "two", spec, by_hand=True)
    assert is_as_recorded(store) and submitted_blend(store) == by_content[made.read_bytes()] == "two", n
    if not stopped:
        break
print(n)
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", ["killed", "full"])
def test_any_instant_of_a_submission_is_good_to_stop_at(run, how):
    """Before the n-th operation on a file, for every n: the record tells what lies there, and the next call mends it."""
    command = [sys.executable, "-c", STOP_AT_EVERY_STEP, str(run.store.folder), how]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert 6 < int(done.stdout) < 199


def test_a_record_of_an_earlier_version_is_read_and_its_file_left_alone(run):
    store = run.store
    versions = [
        {k: v for k, v in version.to_json().items() if k != "options"}
        for version in submission_versions(store)
    ]
    record = store.folder / "submission.json"
    record.write_text(json.dumps({"format": 1, "versions": versions}))
    before = record.read_bytes()
    submit_blend(store, "one", submission_spec(store), by_hand=True)
    assert record.read_bytes() == before
