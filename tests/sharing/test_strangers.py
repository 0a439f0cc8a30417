"""What comes from others is a stranger's: names, paths, sizes, digests."""

import json
import os
import shutil

import numpy as np
import pytest

from ensembler.predictions.store import RunStore
from ensembler.predictions.testing import write_fake_run
from ensembler.sharing.layout import blob_path, digest, members_folder, record_file
from ensembler.sharing.ls import list_pool
from ensembler.sharing.pull import pull_members
from ensembler.sharing.share import share_run


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    """A pool with one member, and an empty run of somebody else with the same rows."""
    folder = tmp_path_factory.mktemp("honest")
    sizes = {"n_train": 18, "n_test": 4, "views": ("identity",)}
    theirs = write_fake_run(folder / "theirs", {"a": 1.0}, **sizes)
    mine = write_fake_run(folder / "mine", {"own": 0.5}, **sizes)
    share_run(theirs, str(folder / "pool"), author="Ann")
    assert theirs.samples_sha256 == mine.samples_sha256
    return folder


@pytest.fixture
def place(honest, tmp_path):
    """Copies of both, and a function that forges the record of the pool's one member."""
    for name in ("pool", "mine"):
        shutil.copytree(honest / name, tmp_path / name)
    store = RunStore(tmp_path / "mine")
    folder = tmp_path / "pool" / members_folder(store.samples_sha256)
    (path,) = folder.iterdir()
    said = json.loads(path.read_text())

    def forge(**changes):
        path.unlink(missing_ok=True)
        content = json.dumps(merged(said, changes)).encode()
        (folder / record_file("a", content)).write_bytes(content)

    return tmp_path / "pool", store, forge, path, said


def merged(said, changes):
    made = dict(said)
    for key, value in changes.items():
        made[key] = merged(said.get(key, {}), value) if isinstance(value, dict) else value
    return made


def refused(pool, store):
    """Why the one member is left, and that nothing is left of it in the run."""
    taken = pull_members(store, str(pool))
    assert taken.members == ()
    assert RunStore(store.folder).complete_members == ["own"]
    assert sorted(path.name for path in store.folder.iterdir()) == [
        "members",
        "samples.csv",
    ]
    assert taken.refusal.startswith(f"nothing of {pool} fits run 'mine': ")
    (left,) = taken.skipped
    return left.reason


BLOB = {"sha256": "0" * 64, "size": 3}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"name": "../../x"}, "cannot be the name of a member"),
        ({"format": 2}, "format"),
        ({"author": "a\rb"}, "control character"),
        ({"author": ""}, "author"),
        ({"files": {"oof.npy": {"sha256": "../../../etc/passwd"}}}, "is not a sha256"),
        ({"files": {"oof.npy": {"size": -1}}}, "greater than or equal to 0"),
        ({"files": {"oof.npy": {"size": 7}}}, "has another size"),
        ({"files": {"oof.npy": BLOB}}, "is missing or has another size"),
        ({"member": {"target": "../x"}}, "it predicts '../x'"),
        (
            {"member": {"tasks": {"../../x": ["cat", "dog", "eel"]}}},
            "it predicts '../../x'",
        ),
        ({"member": {"classes": ["cat", "dog"]}}, "other classes of 'label'"),
        ({"member": {"classes": ["cat", "cat", "dog", "eel"]}}, "other classes of 'label'"),
        ({"member": {"views": ["identity", "../../x\n"]}}, "it has a view called"),
        ({"member": {"views": ["identity", "identity"]}}, "some of one name"),
        ({"member": {"views": ["identity", "hflip"]}}, "has shape"),
        ({"member": {"folds": 10**12}}, "has shape"),
        ({"member": {"fold_column": "fold_r2"}}, "no column 'fold_r2'"),
        ({"member": {"multi_label": ["label"]}}, "several labels"),
        ({"member": {"kind": "probs"}}, "called probabilities and are none"),
        ({"member": {"kind": "pickle"}}, "kind"),
    ],
)
def test_a_forged_record_is_refused_with_the_reason(place, changes, reason):
    pool, store, forge, *_ = place
    forge(**changes)
    assert reason in refused(pool, store)


def test_a_record_under_another_name_or_of_another_content_is_refused(place):
    pool, store, forge, path, _ = place
    content = path.read_bytes()
    forge(name="b")
    assert "another member" in refused(pool, store)
    shutil.rmtree(path.parent)
    path.parent.mkdir()
    path.write_bytes(content.replace(b'"Ann"', b'"Eve"'))
    assert "not the record that its name says" in refused(pool, store)


@pytest.mark.parametrize(
    "content", [b"", b"[" * 100_000, b"\xff\xfe", b"[]", b"{" * 2_000_000]
)
def test_what_is_no_record_is_refused(place, content):
    pool, store, _, path, _ = place
    path.unlink()
    (path.parent / record_file("a", content)).write_bytes(content)
    assert refused(pool, store)
    assert list_pool(str(pool)).members == ()


def test_every_flipped_bit_of_an_array_is_found(place):
    pool, store, _, _, said = place
    rng = np.random.default_rng(0)
    for file in ("oof.npy", "test.npy"):
        blob = pool / blob_path(said["files"][file]["sha256"])
        content = blob.read_bytes()
        for at in rng.integers(0, len(content), 8):
            flipped = bytearray(content)
            flipped[at] ^= 1 << int(rng.integers(8))
            blob.write_bytes(flipped)
            reason = refused(pool, store)
            assert f"({file}) was altered" in reason
        blob.write_bytes(content)
    assert pull_members(store, str(pool)).members == ("a",)


def test_files_that_are_none_are_refused_and_not_waited_for(place):
    pool, store, _, _, said = place
    blob = pool / blob_path(said["files"]["oof.npy"]["sha256"])
    blob.unlink()
    os.mkfifo(blob)
    assert "is missing" in refused(pool, store)
    assert list_pool(str(pool)).members == ()


def test_an_array_of_objects_is_never_unpickled(place, tmp_path):
    pool, store, forge, _, said = place
    np.save(tmp_path / "evil.npy", np.array([{"a": 1}], dtype=object))
    content = (tmp_path / "evil.npy").read_bytes()
    path = pool / blob_path(digest(content))
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    sums = {"sha256": digest(content), "size": len(content)}
    forge(files={**said["files"], "oof.npy": sums})
    assert "not a plain .npy array" in refused(pool, store)


def test_rows_without_a_prediction_are_refused(place, tmp_path):
    pool, store, forge, _, said = place
    array = np.load(pool / blob_path(said["files"]["oof.npy"]["sha256"]))
    array[0, 3] = np.nan
    np.save(tmp_path / "nan.npy", array)
    content = (tmp_path / "nan.npy").read_bytes()
    path = pool / blob_path(digest(content))
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    forge(
        files={
            **said["files"],
            "oof.npy": {"sha256": digest(content), "size": len(content)},
        }
    )
    assert "not finite" in refused(pool, store)
