"""Everybody's members, and what each would add."""

import json

import pytest

from ensembler.blending.spec import BlendSpec
from ensembler.blends.blend import blend_run
from ensembler.predictions.store import RunStore
from ensembler.predictions.testing import write_fake_run
from ensembler.sharing.ls import list_pool
from ensembler.sharing.pull import pull_members
from ensembler.sharing.share import share_run


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A pool of a strong member and of one that guesses, and the run of somebody with a weak one."""
    folder = tmp_path_factory.mktemp("team")
    sizes = {"n_train": 240, "n_test": 20, "views": ("identity",)}
    theirs = write_fake_run(folder / "theirs", {"strong": 2.5, "guess": 0.0}, **sizes)
    mine = write_fake_run(folder / "artifacts" / "mine", {"weak": 0.6}, **sizes)
    share_run(theirs, str(folder / "pool"), author="Ann")
    return folder, mine


def test_a_strong_member_adds_and_a_guess_is_noise(shared):
    folder, mine = shared
    blend_run(mine, BlendSpec(method="soft"))
    members = {
        member.name: member for member in list_pool(str(folder / "pool"), mine).members
    }
    strong, guess = members["strong"].adds, members["guess"].adds
    assert (strong.over, strong.metric, strong.n) == ("soft", "log_loss", 240)
    assert strong.low > 0.05
    assert strong.verdict == "better"
    assert guess.verdict in ("noise", "worse")
    assert guess.value < strong.value / 20


def test_the_one_run_with_its_folds_is_measured_against(shared, ens_here, monkeypatch):
    folder, _ = shared
    monkeypatch.setenv("ENS_ARTIFACTS", str(folder / "artifacts"))
    found = json.loads(ens_here("ls", folder / "pool", "--json").stdout)
    assert found["run"] == "mine"
    assert all(member["adds"] for member in found["members"])
    assert "with the member beside it" in ens_here("ls", folder / "pool").stdout


def test_a_member_with_an_altered_file_is_shown_without_a_gain(shared, tmp_path):
    import shutil

    folder, mine = shared
    shutil.copytree(folder / "pool", tmp_path / "pool")
    record = list_pool(str(tmp_path / "pool")).members[0].record
    (path,) = (tmp_path / "pool" / "members").glob(f"*/*--{record[:16]}.json")
    sha256 = json.loads(path.read_text())["files"]["oof.npy"]["sha256"]
    blob = tmp_path / "pool" / "blobs" / sha256[:2] / sha256
    blob.write_bytes(blob.read_bytes()[:-1] + b"!")
    store = RunStore(mine.folder)
    shutil.rmtree(mine.folder.parent / ".cache", ignore_errors=True)
    adds = [member.adds for member in list_pool(str(tmp_path / "pool"), store).members]
    assert (adds[0], adds[1] is None) == (None, False)
    taken = pull_members(store, str(tmp_path / "pool"))
    assert len(taken.skipped) == 1
    assert f"{sha256} (oof.npy) was altered" in taken.skipped[0].reason
