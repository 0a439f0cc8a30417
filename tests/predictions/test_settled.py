"""What reads while another process replaces a member or blend gets one version of it, the old or the new one."""

import os
import time
from pathlib import Path

import numpy as np
import pytest
from fuzz import some

from ensembler.errors import MissingFileError, StoreError
from ensembler.files import claim, write_json
from ensembler.predictions import settled
from ensembler.predictions.arrays import write_array
from ensembler.predictions.blends import BlendRecord, write_blend
from ensembler.predictions.members import FORMAT, checksums
from ensembler.predictions.publish import finish_replacements, replacing
from ensembler.predictions.store import RunStore

CLASSES = ("cat", "dog", "eel")


def replace_member(store, version, views=("identity",)):
    """A member whose logits are all `version`, in the log odds of the first class."""
    oof = np.zeros((len(views), 60, 3), np.float32)
    test = np.zeros((3, len(views), 20, 3), np.float32)
    oof[..., 0] = test[..., 0] = version
    with replacing(store.member_folder("a"), store.lock_path) as prepared:
        write_array(prepared / "oof.npy", oof)
        write_array(prepared / "test.npy", test)
        sums = checksums(prepared, ["oof.npy", "test.npy"]) | checksums(
            store.folder, ["samples.csv"]
        )
        record = {
            "format": FORMAT,
            "name": "a",
            "classes": CLASSES,
            "views": views,
            "folds": 3,
            "sha256": sums,
        }
        write_json(prepared / "member.json", record)


def replace_blend(store, version):
    record = BlendRecord(
        name="soft", classes=CLASSES, method="soft", members=("a",), sha256={}
    )
    oof, test = np.full((60, 3), version, np.float32), np.full((20, 3), version, np.float32)
    write_blend(store.blend_folder("soft"), store.lock_path, record, oof, test)


def read_member(store):
    member = RunStore(store.folder).member("a")
    versions = {float(member.oof_logits[0, 0, 0]), float(member.test_logits[0, 0, 0, 0])}
    assert len(versions) == 1
    return versions.pop()


def read_blend(store):
    blend = RunStore(store.folder).blend("soft")
    versions = {float(blend.oof[0, 0]), float(blend.test[0, 0])}
    assert len(versions) == 1
    return versions.pop()


KINDS = pytest.mark.parametrize(
    ("replace", "read"), [(replace_member, read_member), (replace_blend, read_blend)]
)


@KINDS
@pytest.mark.parametrize("moment", range(4))
def test_a_replacement_between_any_two_steps_of_reading_gives_one_version(
    fake_run, monkeypatch, replace, read, moment
):
    """Before the n-th look at a record or file the writer replaces everything, once."""
    replace(fake_run, 1.0)
    steps = []

    def before(real):
        def step(*arguments):
            steps.append(real)
            if len(steps) == moment + 1:
                replace(fake_run, 2.0)
            return real(*arguments)

        return step

    monkeypatch.setattr(settled, "read_record", before(settled.read_record))
    monkeypatch.setattr(settled, "_hold", before(settled._hold))
    assert read(fake_run) == 2.0
    assert len(steps) > moment


def test_a_member_that_has_more_views_by_the_time_it_is_read_is_read_with_them(fake_run):
    replace_member(fake_run, 1.0)
    member = fake_run.member("a")
    replace_member(fake_run, 2.0, ("identity", "hflip"))
    assert member.oof(CLASSES).shape == (60, 3)
    assert (
        member.oof_logits.shape[0]
        == member.test_logits.shape[1]
        == len(member.record.views)
        == 2
    )


def test_arrays_that_are_open_stay_those_of_their_version(fake_run):
    replace_member(fake_run, 1.0)
    member = fake_run.member("a")
    oof = member.oof_logits
    replace_member(fake_run, 2.0)
    assert member.test_logits[0, 0, 0, 0] == oof[0, 0, 0] == 1.0


@pytest.mark.slow
@KINDS
def test_whoever_reads_in_a_loop_of_replacements_never_hears_of_an_altered_file(
    fake_run, replace, read
):
    replace(fake_run, 0.0)
    child = os.fork()
    if not child:
        version = 0.0
        while True:
            version += 1
            replace(fake_run, version)
    try:
        seen = []
        until, enough = time.monotonic() + some(4, 20), some(40, 10_000)
        while time.monotonic() < until and len(set(seen)) < enough:
            seen.append(read(fake_run))
            store = RunStore(fake_run.folder)
            assert "a" in store.complete_members
        assert seen == sorted(seen)
        assert len(set(seen)) > 3
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)


@KINDS
def test_a_replacement_whose_process_died_when_it_was_decided_is_read_where_it_lies(
    fake_run, replace, read
):
    """As after a kill between the removal of the old record and the arrival of the new one, at each step of it."""
    replace(fake_run, 1.0)
    entry = (
        fake_run.member_folder("a")
        if replace is replace_member
        else fake_run.blend_folder("soft")
    )
    record = "member.json" if replace is replace_member else "blend.json"
    for moved in ((), ("oof.npy",), ("oof.npy", "test.npy")):
        replace(fake_run, 2.0)
        (entry / ".next").mkdir()
        for name in {record, "oof.npy", "test.npy"} - set(moved):
            (entry / name).rename(entry / ".next" / name)
        assert read(fake_run) == 2.0
        with claim(fake_run.lock_path):  # as whoever writes a submission does
            assert read(fake_run) == 2.0
        finish_replacements(fake_run.folder, fake_run.lock_path)
        assert read(fake_run) == 2.0
        assert not (entry / ".next").exists()


def test_what_is_altered_is_still_said_to_be(fake_run):
    path = fake_run.member_folder("a") / "oof.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(
        StoreError,
        match=r"oof.npy is not the file that member.json describes \(its sha256 differs\)",
    ):
        _ = fake_run.member("a").oof_logits
    path.unlink()
    with pytest.raises(
        MissingFileError, match=r"oof.npy is missing though member.json describes it"
    ):
        _ = fake_run.member("a").oof_logits


def count_open():
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_files_that_nobody_needs_any_more_are_closed(fake_run):
    before = count_open()
    for _ in range(20):
        member = fake_run.member("a")
        _ = member.oof_logits
        del member
    assert count_open() <= before + 2
