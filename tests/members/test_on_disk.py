import pytest

from ensembler.members.on_disk import Identity, MemberOnDisk
from ensembler.progress import RecordedProgress

IDENTITY = Identity("now", frozenset({"before"}), ("a", "b"), ("identity",))


@pytest.mark.parametrize(
    ("record", "made"),
    [
        ({"fingerprint": "now", "classes": ["other", "order"]}, True),
        ({"fingerprint": "before", "classes": ["a", "b"]}, True),
        ({"fingerprint": "before", "classes": ["b", "a"]}, False),
        ({"fingerprint": "before"}, False),
        ({"fingerprint": "other", "classes": ["a", "b"]}, False),
        ({}, False),
    ],
)
def test_a_record_is_of_a_plan_by_its_fingerprint_or_an_older_one_with_the_same_classes(
    record, made
):
    assert IDENTITY.made(record) is made


@pytest.fixture
def on_disk(tmp_path):
    return MemberOnDisk(tmp_path / "cnn", IDENTITY, 3, RecordedProgress())


def test_of_a_member_that_was_never_trained_all_folds_are_missing(on_disk):
    assert not on_disk.is_complete
    assert on_disk.record is None
    assert on_disk.folder == on_disk.final_folder
    assert on_disk.missing(None) == [0, 1, 2]
    assert on_disk.missing([2, 1, 2]) == [1, 2]
    assert on_disk.checkpoint_header(0) is None


def test_weights_that_are_damaged_are_said_and_count_as_not_there(on_disk):
    on_disk.final_folder.mkdir()
    (on_disk.final_folder / "fold0.safetensors").write_bytes(b"no weights")
    assert on_disk.checkpoint_header(0) is None
    (warning,) = on_disk.progress.warnings
    assert "the fold is trained again" in warning
