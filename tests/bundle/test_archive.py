import io
import json
import zipfile
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from fuzz import examples
from hypothesis import given

from ensembler.bundle.archive import digest_of_record, open_archive
from ensembler.bundle.records import MANIFEST
from ensembler.errors import BundleError, MissingBundleError


def entries_of(path):
    with zipfile.ZipFile(path) as file:
        return {name: file.read(name) for name in file.namelist()}


def rewrite(path, entries, *, compression=zipfile.ZIP_STORED, twice=None):
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in entries.items():
            file.writestr(name, content)
        if twice is not None:
            with pytest.warns(UserWarning, match="Duplicate name"):
                file.writestr(twice, b"again")
    return path


def edited(path, change, *, sign):
    """The bundle with an edited record, with the digest that fits it or without."""
    entries = entries_of(path)
    record = json.loads(entries[MANIFEST])
    digest = record.pop("digest")
    change(record)
    record["digest"] = digest_of_record(record) if sign else digest
    return {**entries, MANIFEST: json.dumps(record)}


def read_all(path):
    archive = open_archive(path)
    return {name: archive.read(name) for name in archive.record.sha256}


def test_any_zip_tool_opens_a_bundle_and_every_entry_is_stored(written):
    with zipfile.ZipFile(written) as file:
        assert file.testzip() is None
        assert {info.compress_type for info in file.infolist()} == {zipfile.ZIP_STORED}
        record = json.loads(file.read(MANIFEST))
        images = np.load(io.BytesIO(file.read("reference/images.npy")))
    assert record["format"] == 1
    assert record["targets"]["label"]["classes"] == ["cat", "dog", "eel"]
    assert images.dtype == np.uint8
    assert set(record["sha256"]) == set(entries_of(written)) - {MANIFEST}


def test_what_is_read_is_what_was_packed(written):
    assert read_all(written) == {
        name: content for name, content in entries_of(written).items() if name != MANIFEST
    }


def test_a_bundle_that_is_not_there_or_no_file_is_refused(tmp_path):
    with pytest.raises(MissingBundleError, match="there is no bundle"):
        open_archive(tmp_path / "none.ens")
    with pytest.raises(BundleError, match="is a folder"):
        open_archive(tmp_path)
    with pytest.raises(BundleError, match="is not a plain file"):
        open_archive(Path("/dev/null"))


@pytest.mark.parametrize("share", [0, 0.2, 0.5, 0.9, 0.999])
def test_a_bundle_that_was_cut_short_is_refused(written, tmp_path, share):
    content = written.read_bytes()
    short = tmp_path / "short.ens"
    short.write_bytes(content[: int(share * len(content))])
    with pytest.raises(BundleError, match="no whole bundle"):
        open_archive(short)


@examples(40)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_never_gives_other_content(written, tmp_path_factory, place, bit):
    content = bytearray(written.read_bytes())
    whole = read_all(written)
    content[int(place * len(content))] ^= 1 << bit
    path = tmp_path_factory.mktemp("flipped") / "b.ens"
    path.write_bytes(content)
    try:
        found = read_all(path)
    except BundleError:
        return
    assert found == whole


@examples(30)
@given(st.binary(max_size=400))
def test_whatever_is_called_a_bundle_is_one_error(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("noise") / "b.ens"
    path.write_bytes(content)
    with pytest.raises(BundleError):
        open_archive(path)


def test_a_bundle_of_another_version_says_so(written, tmp_path):
    entries = edited(written, lambda record: record.update(format=2), sign=True)
    path = rewrite(tmp_path / "b.ens", entries)
    with pytest.raises(BundleError, match="of format 2, this version of ensembler reads"):
        open_archive(path)


def test_an_edited_order_of_classes_is_refused(written, tmp_path):
    def swap(record):
        record["targets"]["label"]["classes"].reverse()

    path = rewrite(tmp_path / "b.ens", edited(written, swap, sign=False))
    with pytest.raises(BundleError, match="was edited"):
        open_archive(path)


def test_an_entry_with_another_checksum_is_refused(written, tmp_path):
    entries = entries_of(written)
    entries["blends/soft.safetensors"] += b" "
    archive = open_archive(rewrite(tmp_path / "b.ens", entries))
    with pytest.raises(BundleError, match="is not what was packed"):
        archive.read("blends/soft.safetensors")


@pytest.mark.parametrize(
    "name", ["../evil", "/etc/evil", "a/../../evil", "a\\b", "a//b", ".hidden", "a\nb"]
)
def test_names_that_lead_elsewhere_are_refused(written, tmp_path, name):
    entries = {**entries_of(written), name: b"evil"}
    with pytest.raises(BundleError, match=r"no name of a bundle|does not list"):
        open_archive(rewrite(tmp_path / "b.ens", entries))


def test_entries_that_are_missing_twice_or_not_listed_are_refused(written, tmp_path):
    entries = entries_of(written)
    with pytest.raises(BundleError, match="comes twice"):
        open_archive(rewrite(tmp_path / "a.ens", entries, twice=MANIFEST))
    more = {**entries, "more.txt": b"?"}
    with pytest.raises(BundleError, match="does not list"):
        open_archive(rewrite(tmp_path / "b.ens", more))
    fewer = {n: c for n, c in entries.items() if n != "blends/soft.safetensors"}
    with pytest.raises(BundleError, match="has no entry blends"):
        open_archive(rewrite(tmp_path / "c.ens", fewer))
    with pytest.raises(BundleError, match="no bundle"):
        open_archive(rewrite(tmp_path / "d.ens", {"a.txt": b""}))


def test_a_bomb_is_refused_before_it_is_read(written, tmp_path):
    entries = {**entries_of(written), "blends/soft.safetensors": bytes(50_000_000)}
    path = rewrite(tmp_path / "b.ens", entries, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(BundleError, match="is compressed"):
        open_archive(path)


def test_entries_that_claim_more_than_the_file_has_are_refused(written, tmp_path):
    content = written.read_bytes()
    at = content.rindex(b"PK\x01\x02")
    size = (1 << 31).to_bytes(4, "little")
    path = tmp_path / "b.ens"
    path.write_bytes(content[: at + 20] + size + size + content[at + 28 :])
    with pytest.raises(BundleError, match="claim more than"):
        open_archive(path)


@pytest.mark.parametrize(
    "text", [b"[" * 100_000, b"{}", b"[]", b"nothing", b'{"format": 1, "digest": 3}']
)
def test_a_record_that_is_none_is_refused(written, tmp_path, text):
    path = rewrite(tmp_path / "b.ens", {**entries_of(written), MANIFEST: text})
    with pytest.raises(BundleError):
        open_archive(path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda r: r.update(answers=["none"]), "answers names 'none'"),
        (lambda r: r.update(answers=[]), "answers"),
        (lambda r: r["members"]["a"].update(checkpoints=["x"]), "checkpoints names 'x'"),
        (lambda r: r["members"]["a"]["input"].update(size=10**9), "size"),
        (lambda r: r["blends"]["soft"].update(state=None), "a state or tasks"),
        (lambda r: r["blends"]["soft"].update(target="other"), "names 'other'"),
        (lambda r: r["members"]["a"]["targets"].update(label=["cat"]), "other classes"),
        (lambda r: r.pop("targets"), "targets"),
    ],
)
def test_a_signed_record_that_does_not_fit_is_refused(written, tmp_path, change, words):
    path = rewrite(tmp_path / "b.ens", edited(written, change, sign=True))
    with pytest.raises(BundleError, match=words):
        open_archive(path)
