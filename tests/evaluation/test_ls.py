import json

import pytest

from ensembler.blending.spec import BlendSpec
from ensembler.blends.blend import blend_run
from ensembler.errors import StoreError
from ensembler.evaluation.ls import list_run, list_runs
from ensembler.predictions.testing import write_fake_run


def test_runs_are_listed_by_name_and_other_folders_are_not(tmp_path):
    for name in ("second", "first"):
        write_fake_run(tmp_path / name)
    (tmp_path / "notes").mkdir()
    assert [listing.run for listing in list_runs(tmp_path)] == ["first", "second"]
    assert list_runs(tmp_path / "nowhere") == []


def test_a_run_has_its_members_blends_and_no_submission_yet(fake_run):
    blend_run(fake_run, BlendSpec(method="soft"))
    listing = list_run(fake_run)
    assert [(m.name, m.folds_done, m.folds, m.state) for m in listing.members] == [
        ("a", 3, 3, "complete"),
        ("b", 3, 3, "complete"),
    ]
    (blend,) = listing.blends
    assert (blend.name, blend.submitted, blend.members) == ("soft", False, ("a", "b"))
    assert listing.submission is None
    assert json.loads(json.dumps(listing.to_json()))["run"] == "fake"


def test_a_member_that_was_begun_or_failed_says_how_far_it_got(fake_run):
    for name in ("begun", "broken"):
        (fake_run.folder / "members" / name).mkdir()
    failure = fake_run.folder / "members" / "broken" / "failed.json"
    failure.write_text('{"message": "the loss is not finite"}')
    found = {member.name: member for member in list_run(fake_run).members}
    assert (found["begun"].state, found["begun"].folds_done) == ("training", 0)
    assert (found["broken"].state, found["broken"].message) == (
        "failed",
        "the loss is not finite",
    )


def test_arrays_are_read_only_when_they_are_to_be_checked(fake_run):
    path = fake_run.folder / "members" / "a" / "oof.npy"
    path.write_bytes(path.read_bytes()[:-8] + b"\x00" * 8)
    list_run(fake_run)
    with pytest.raises(StoreError, match=r"oof\.npy"):
        list_run(fake_run, check=True)
