"""Blends in the store: their files and the record that describes them."""

import hashlib

import numpy as np
import pytest

from ensembler.files import read_json
from ensembler.predictions.blends import STATE, BlendRecord, write_blend


def write(run, state):
    classes = ("cat", "dog", "eel")
    record = BlendRecord(
        name="x", classes=classes, method="soft", members=("a",), sha256={}
    )
    write_blend(
        run.blend_folder("x"),
        run.lock_path,
        record,
        np.zeros((60, 3)),
        np.zeros((20, 3)),
        state,
    )
    return run.blend("x")


def test_the_state_is_kept_with_its_checksum(fake_run):
    blend = write(fake_run, b"what was learned")
    assert blend.state == b"what was learned"
    sums = read_json(blend.folder / "blend.json")["sha256"]
    assert sums[STATE] == hashlib.sha256(b"what was learned").hexdigest()
    assert sorted(sums) == [STATE, "oof.npy", "test.npy"]


def test_a_blend_without_a_state_leaves_none_of_an_earlier_one(fake_run):
    write(fake_run, b"of before")
    blend = write(fake_run, None)
    assert blend.state is None
    assert not (blend.folder / STATE).exists()


@pytest.mark.parametrize("order", [("state", "oof"), ("oof", "state")])
def test_a_replaced_blend_gives_files_of_one_version(fake_run, order):
    opened = write(fake_run, b"first")
    first = getattr(opened, order[0])
    write(fake_run, b"second")
    assert (first if order[0] == "state" else opened.state) == b"first"
