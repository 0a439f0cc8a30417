"""An import that is stopped, given again or crowded ends well, and nothing that is there is lost or replaced."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from fuzz import some

from ensembler.errors import RequestError
from ensembler.predictions.importing import import_
from ensembler.predictions.importing.import_ import MemberFiles, import_predictions
from ensembler.predictions.store import RunStore


def write_files(folder):
    rng = np.random.default_rng(0)
    labels = [["cat", "dog", "eel"][i % 3] for i in range(12)]
    pd.DataFrame({"id": [f"r{i}" for i in range(12)], "label": labels}).to_csv(
        folder / "labels.csv", index=False
    )
    pd.DataFrame({"id": [f"r{i}" for i in range(12)], "label": labels[::-1]}).to_csv(
        folder / "other.csv", index=False
    )
    pd.DataFrame({"id": [f"t{i}" for i in range(5)]}).to_csv(
        folder / "test.csv", index=False
    )
    for name in "abc":
        np.save(
            folder / f"{name}_oof.npy", rng.dirichlet(np.ones(3), 12).astype(np.float32)
        )
        np.save(
            folder / f"{name}_test.npy", rng.dirichlet(np.ones(3), 5).astype(np.float32)
        )


@pytest.fixture
def files(tmp_path):
    write_files(tmp_path)
    return tmp_path


def bring(files, names="ab", labels="labels.csv", **options):
    members = [
        MemberFiles(n[0], files / f"{n[-1]}_oof.npy", files / f"{n[-1]}_test.npy")
        for n in names
    ]
    rows = {"labels": files / labels, "test_ids": files / "test.csv"} if labels else {}
    return import_predictions(files / "run", members, by_position=True, **rows, **options)


def digests(files):
    return {
        name: RunStore(files / "run").member(name).record.sha256
        for name in RunStore(files / "run").complete_members
    }


def test_the_same_import_again_changes_nothing_and_says_so(files):
    bring(files)
    before = {
        path: path.stat().st_mtime_ns
        for path in (files / "run").rglob("*")
        if path.is_file()
    }
    done = bring(files)
    assert done.members == ("a", "b")
    assert [
        note for note in done.notes if "is there already, with the same predictions" in note
    ]
    assert {
        path: path.stat().st_mtime_ns
        for path in (files / "run").rglob("*")
        if path.is_file()
    } == before


def test_another_member_of_the_same_name_is_refused_before_anything_is_written(files):
    bring(files, ["a"])
    before = digests(files)
    with pytest.raises(
        RequestError, match="has a member 'a' already, which is another one"
    ):
        bring(files, ["c", ("a", "b")])
    assert digests(files) == before


def test_rows_that_are_not_those_of_the_run_are_refused(files):
    bring(files, ["a"])
    with pytest.raises(
        RequestError,
        match=r"ids, labels or folds of .*other.csv are not those of its train rows",
    ):
        bring(files, ["b"], labels="other.csv")
    with pytest.raises(RequestError, match="has the classes cat, dog, eel, in this order"):
        bring(files, ["b"], classes=["dog", "cat", "eel"])
    bring(files, ["b"], labels=None)
    assert set(digests(files)) == {"a", "b"}


def meanwhile(monkeypatch, other):
    """Have another import take place from beginning to end when one has checked its files and writes nothing yet."""
    real, done = import_.check_name_is_free, []

    def checked(*arguments):
        free = real(*arguments)
        if not done:
            done.append(True)
            other()
        return free

    monkeypatch.setattr(import_, "check_name_is_free", checked)


def test_of_two_imports_that_make_one_run_from_other_labels_one_is_refused(
    files, monkeypatch
):
    meanwhile(monkeypatch, lambda: bring(files, ["b"], labels="other.csv"))
    with pytest.raises(RequestError, match="'run' was made of other rows in the meantime"):
        bring(files, ["a"])
    assert set(digests(files)) == {"b"}


def test_two_imports_that_make_one_run_from_the_same_labels_both_end_well(
    files, monkeypatch
):
    meanwhile(monkeypatch, lambda: bring(files, ["b"]))
    bring(files, ["a"])
    assert set(digests(files)) == {"a", "b"}


def test_of_two_imports_of_one_name_the_first_stays(files, monkeypatch):
    bring(files, ["a"])
    meanwhile(monkeypatch, lambda: bring(files, ["b"]))
    with pytest.raises(RequestError, match="has a member 'b' already"):
        bring(files, [("b", "c")])
    store = RunStore(files / "run")
    assert np.allclose(
        store.member("b").oof(store.classes("label")),
        np.load(files / "b_oof.npy"),
        atol=1e-6,
    )


def test_members_that_do_not_fit_into_memory_together_are_read_twice_and_come_out_the_same(
    files, monkeypatch
):
    bring(files, "abc")
    before = digests(files)
    (files / "run").rename(files / "held")
    monkeypatch.setattr(import_, "MOST_HELD", 200)
    bring(files, "abc")
    assert digests(files) == before


STOP_AT_EVERY_STEP = """
import errno, os, shutil, sys
from pathlib import Path
from ensembler.predictions.importing.import_ import MemberFiles, import_predictions
from ensembler.predictions.store import RunStore

files, full = Path(sys.argv[1]), sys.argv[2] == "full"

def bring(run):
    members = [MemberFiles(n, files / f"{n}_oof.npy", files / f"{n}_test.npy") for n in "ab"]
    rows = {"labels": files / "labels.csv", "test_ids": files / "test.csv"}
    import_predictions(run, members, by_position=True, **rows)

def content(run):
    return {str(p.relative_to(run)): p.read_bytes() for p in run.rglob("*") if p.is_file()}

bring(files / "whole")
whole = content(files / "whole")
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
    for name in ("open", "replace", "mkdir", "fsync", *(() if full else ("unlink", "rmdir"))):
        setattr(os, name, counted(getattr(os, name)))

run = files / "run"
for n in range(int(sys.argv[3]), 300, int(sys.argv[4])):
    shutil.rmtree(run, ignore_errors=True)
    child = os.fork()
    if not child:
        stop_before_operation(n)
        try:
            bring(run)
        except OSError:
            pass
        os._exit(9 if count >= n else 0)
    stopped = os.waitpid(child, 0)[1] != 0
    bring(run)
    found = content(run)
    assert found == whole, (n, found.keys() ^ whole.keys())
    if not stopped:
        break
print(n)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("how", "first"), [("killed", 1), ("full", 2)])
def test_any_instant_of_an_import_is_good_to_stop_at(files, how, first):
    """Before the n-th operation on a file, for every n; in a usual run for every fourth.

    The same command then ends with what one import makes.
    """
    numbers = some((first, 4), (1, 1))
    command = [
        sys.executable,
        "-c",
        STOP_AT_EVERY_STEP,
        str(files),
        how,
        *map(str, numbers),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert 30 < int(done.stdout) < 299
