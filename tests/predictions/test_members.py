import json
from types import SimpleNamespace

import numpy as np
import pytest

from ensembler.errors import EnsemblerError, MissingFileError, StoreError, UnknownNameError
from ensembler.files import write_json
from ensembler.predictions.arrays import write_array
from ensembler.predictions.members import checksums, shared_views
from ensembler.predictions.store import RunStore


def reopen(store):
    return RunStore(store.folder)


def test_a_member_gives_probabilities_of_its_merged_views(fake_run):
    member = fake_run.member("a")
    logits = np.asarray(member.oof_logits)
    by_hand = np.mean(
        [np.exp(v) / np.exp(v).sum(-1, keepdims=True) for v in logits.astype(float)], axis=0
    )
    assert np.allclose(member.oof(("cat", "dog", "eel")), by_hand, atol=1e-6)
    assert member.test(("cat", "dog", "eel")).shape == (3, 20, 3)


def test_classes_are_matched_by_name_not_by_position(fake_run):
    member = fake_run.member("a")
    plain, turned = member.oof(("cat", "dog", "eel")), member.oof(("eel", "cat", "dog"))
    assert np.array_equal(plain[:, [2, 0, 1]], turned)
    with pytest.raises(StoreError, match="other classes than the run: eel, fox differ"):
        member.oof(("cat", "dog", "fox"))


@pytest.mark.parametrize("name", ["oof.npy", "test.npy"])
@pytest.mark.parametrize("place", [0.0, 0.01, 0.5, 0.999])
def test_a_single_flipped_bit_is_seen_and_the_file_named(fake_run, name, place):
    path = fake_run.folder / "members" / "a" / name
    content = bytearray(path.read_bytes())
    content[int(place * (len(content) - 1))] ^= 1 << 4
    path.write_bytes(content)
    member = reopen(fake_run).member("a")
    with pytest.raises(StoreError, match=name):
        _ = member.oof_logits, member.test_logits


def test_a_short_file_is_seen_before_it_is_read(fake_run):
    path = fake_run.folder / "members" / "a" / "oof.npy"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(StoreError, match=r"oof\.npy has 1558 bytes, expected 1568"):
        _ = fake_run.member("a").oof_logits


def test_a_header_that_claims_terabytes_costs_nothing(fake_run):
    path = fake_run.folder / "members" / "a" / "oof.npy"
    with path.open("wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (2, 10**12, 3)}
        np.lib.format.write_array_header_1_0(file, header)
    with pytest.raises(
        StoreError,
        match=r"has shape \[2, 1000000000000, 3\], member\.json says \[2, 60, 3\]",
    ):
        _ = fake_run.member("a").oof_logits


def test_an_array_that_needs_pickle_is_refused_unread(fake_run):
    path = fake_run.folder / "members" / "a" / "oof.npy"
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(StoreError, match="only pickle could read"):
        _ = fake_run.member("a").oof_logits


def test_a_missing_array_is_named_with_the_mend(fake_run):
    (fake_run.folder / "members" / "a" / "test.npy").unlink()
    with pytest.raises(MissingFileError, match=r"test\.npy is missing.*made again"):
        _ = fake_run.member("a").test_logits


def test_files_of_two_members_swapped_are_seen(fake_run):
    a, b = (fake_run.folder / "members" / name / "member.json" for name in "ab")
    content = a.read_bytes()
    a.write_bytes(b.read_bytes())
    b.write_bytes(content)
    with pytest.raises(
        StoreError, match="describes member 'b', not 'a'; files were swapped"
    ):
        fake_run.member("a")


def test_reordered_samples_are_seen(fake_run):
    path = fake_run.samples_path
    head, first, second, *rest = path.read_text().splitlines()
    path.write_text("\n".join([head, second, first, *rest]) + "\n")
    with pytest.raises(StoreError, match=r"made for another samples\.csv"):
        reopen(fake_run).member("a")


def test_nan_in_a_finished_fold_is_refused_and_the_fold_named(fake_run):
    folder = fake_run.folder / "members" / "a"
    oof = np.array(fake_run.member("a").oof_logits)
    row = int(np.flatnonzero(fake_run.samples.folds() == 1)[0])
    oof[0, row, 1] = np.nan
    write_array(folder / "oof.npy", oof)
    record = json.loads((folder / "member.json").read_text())
    record["sha256"] |= checksums(folder, ["oof.npy"])
    write_json(folder / "member.json", record)
    with pytest.raises(
        StoreError, match="fold 1 of member 'a' holds values that are not finite"
    ):
        _ = reopen(fake_run).member("a").oof_logits


@pytest.mark.parametrize(
    "content", ["[]", "{}", '{"name": "a"}', '{"name": "a", "classes": 3}', "null", '"a"']
)
def test_an_odd_record_is_one_clear_error(fake_run, content):
    (fake_run.folder / "members" / "a" / "member.json").write_text(content)
    with pytest.raises(EnsemblerError, match=r"member\.json"):
        reopen(fake_run).member("a")


def test_a_name_in_a_record_is_never_a_path(fake_run):
    with pytest.raises(EnsemblerError, match=r"unknown member '\.\./b'"):
        fake_run.member("../b")


def test_an_unknown_member_names_the_nearest(fake_run):
    with pytest.raises(UnknownNameError, match="unknown member 'bb'; did you mean 'b'"):
        fake_run.member("bb")


def test_an_unknown_view_names_those_there_are(fake_run):
    with pytest.raises(
        UnknownNameError, match="unknown view 'hflop' of member 'a'; did you mean 'hflip'"
    ):
        fake_run.member("a").oof(("cat", "dog", "eel"), views=["hflop"])


def test_shared_views_keep_the_order_of_the_first_member():
    def having(*views):
        record = SimpleNamespace(views=views)
        return SimpleNamespace(record=record)

    members = [having("identity", "rot90", "hflip"), having("hflip", "identity")]
    assert shared_views(members) == ["identity", "hflip"]
    assert shared_views([having("vflip"), having("hflip")]) == []
