"""A submission of the history is written again byte for byte, or what changed is named."""

import errno
from pathlib import Path

import numpy as np
import pytest

from ensembler.blends.replay import replay
from ensembler.blends.submit import submission_spec, submit_blend, submit_run
from ensembler.errors import RequestError, StoreError
from ensembler.predictions.testing import write_fake_member
from ensembler.reporting.history import run_history
from ensembler.reporting.versions import all_versions
from ensembler.run import Run


@pytest.fixture
def run(fake_run):
    """A run whose blend `best` was submitted, made again otherwise and submitted again."""
    run = Run(fake_run)
    run.blend("weights", name="best", weights={"a": 1.0, "b": 3.0}, submit=True)
    run.blend("geometric", name="best", submit=True)
    return run


@pytest.fixture
def first(run):
    """The bytes of the first submission."""
    store = run.store
    now = store.submission_path.read_bytes()
    replay(store, 1)
    then = store.submission_path.read_bytes()
    submit_blend(store, "best", submission_spec(store), by_hand=True)
    assert store.submission_path.read_bytes() == now
    return then


def train_again(store, name):
    rng = np.random.default_rng(9)
    oof = rng.normal(size=(2, 60, 3)).astype(np.float32)
    test = rng.normal(size=(3, 2, 20, 3)).astype(np.float32)
    write_fake_member(
        store.folder, name, oof, test, ("cat", "dog", "eel"), ("identity", "hflip")
    )


def lose_file(store, n):
    name = all_versions(store)[n - 1].kept["submission.csv"]
    (store.folder / "history" / name).unlink()


def test_a_replay_is_the_submission_and_one_more_version(run):
    store = run.store
    done = replay(store, 1)
    versions = run_history(store).to_json()["versions"]
    assert [v["current"] for v in versions] == [False, False, True]
    assert versions[2]["replay_of"] == 1
    assert (done.made_again, done.changed) == (False, ())
    replay(store, 3)  # what is there already
    assert len(run_history(store).versions) == 3


@pytest.mark.parametrize("how", ["kept", "remake", "lost"])
def test_it_is_the_same_bytes_whichever_way(run, first, how):
    store = run.store
    if how == "lost":
        lose_file(store, 1)
    out = store.folder / "out.csv"
    done = replay(store, 1, out=out, remake=how == "remake")
    assert out.read_bytes() == first
    assert done.made_again == (how != "kept")


def test_a_member_trained_again_leaves_the_kept_file_as_it_was(run, first):
    train_again(run.store, "b")
    done = replay(run.store, 1)
    assert run.store.submission_path.read_bytes() == first
    assert done.changed == ("members/b/test.npy",)
    assert "members/b/test.npy" in done.notes[0]


def test_what_changed_is_named_where_the_file_is_gone_or_not_wanted(run):
    store = run.store
    train_again(store, "b")
    before = store.submission_path.read_bytes()
    with pytest.raises(StoreError, match=r"members/b/test\.npy changed"):
        replay(store, 1, remake=True)
    lose_file(store, 1)
    with pytest.raises(
        StoreError, match=r"submission\.csv\.gz is missing.*members/b/test\.npy"
    ):
        replay(store, 1)
    assert store.submission_path.read_bytes() == before


def test_a_blend_of_then_whose_state_was_altered_is_named(run):
    store = run.store
    kept = all_versions(store)[0].kept
    name = next(name for path, name in kept.items() if path.endswith("safetensors"))
    (store.folder / "history" / name).write_bytes(b"nothing")
    with pytest.raises(StoreError, match=name):
        replay(store, 1, remake=True)


def test_an_unknown_number_lists_the_known_ones(run):
    with pytest.raises(RequestError, match="1 to 2"):
        replay(run.store, 7)


def test_a_submission_whose_blend_is_made_of_a_blend_is_made_again(fake_run):
    run = Run(fake_run)
    run.blend("soft", name="inner", calibrate="temperature")
    run.blend("weights", name="outer", members=["blend:inner", "a"], weights=[1.0, 2.0])
    out = fake_run.folder / "out.csv"
    submit_run(fake_run, "outer", format="probs", out=out)
    written = out.read_bytes()
    run.blend("geometric", name="inner")
    replay(fake_run, 1, out=out, remake=True)
    assert out.read_bytes() == written


def test_a_template_is_found_again_from_another_folder_and_may_be_gone(
    fake_run, tmp_path, monkeypatch
):
    Run(fake_run).blend("soft", name="best", submit=True)
    template, out = tmp_path / "template.csv", tmp_path / "out.csv"
    ids = fake_run.samples.test["id"].tolist()[::-1]
    template.write_text("id,label\n" + "".join(f"{name},\n" for name in ids))
    monkeypatch.chdir(tmp_path)
    submit_run(fake_run, "best", template=Path("template.csv"))
    written = fake_run.submission_path.read_bytes()
    monkeypatch.chdir(fake_run.folder)
    done = replay(fake_run, 2, out=out, remake=True)
    assert (done.changed, out.read_bytes()) == ((), written)
    template.unlink()
    out.unlink()
    done = replay(fake_run, 2, out=out)
    assert (done.changed, out.read_bytes()) == ((str(template),), written)


def test_versions_from_before_say_that_they_were_not_kept(run):
    from ensembler.reporting.versions import write_versions

    store = run.store
    old = all_versions(store)[0].model_copy(update={"kept": {}, "sources": {}})
    write_versions(store, [old, *all_versions(store)[1:]])
    with pytest.raises(StoreError, match="not kept"):
        replay(store, 1)


def test_of_a_run_that_cannot_be_written_another_file_is_written(run, first, monkeypatch):
    def read_only(path, *, wait=False):
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    store = run.store
    out = store.folder / "out.csv"
    monkeypatch.setattr("ensembler.reporting.submitted.claim", read_only)
    done = replay(store, 1, out=out)
    assert out.read_bytes() == first
    assert "will not list it: Read-only file system" in done.notes[0]
    written = submit_run(store, "best", out=out)
    assert "will not list it: Read-only file system" in written.notes[0]
