"""What a bundle from a stranger may name, and what becomes of it."""

import io
import json
from functools import partial

import numpy as np
import pytest
from bundle_parts import CLASSES, a_member, changed, fitted_state, write_bundle
from safetensors.numpy import save

from ensembler.blending.state import State
from ensembler.bundle.archive import open_archive, write_archive
from ensembler.bundle.check import check_reference
from ensembler.bundle.networks import Networks
from ensembler.bundle.open import open_bundle
from ensembler.errors import BundleError, RequestError, StoreError

EVIL = """
from pathlib import Path

Path({marker!r}).write_text("ran")

def go(*args, **kwargs):
    raise SystemExit
"""


def npy(array):
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


@pytest.fixture
def evil(tmp_path, monkeypatch):
    """A module that would leave a file behind if it were imported, from the Python path."""
    marker = tmp_path / "ran"
    (tmp_path / "evil.py").write_text(EVIL.format(marker=str(marker)))
    monkeypatch.syspath_prepend(tmp_path)
    yield "evil:go"
    assert not marker.exists()


def check_refused(path, words):
    with pytest.raises(RequestError, match=words):
        open_bundle(path)


def test_a_bundle_gives_what_was_packed(written, untrained):
    ensemble = open_bundle(written)
    assert ensemble.record.members == untrained.record.members
    assert check_reference(Networks(ensemble, "cpu")) == 0.0


def test_a_prepare_step_by_code_is_not_run(untrained, tmp_path, evil):
    member = a_member("a", input={"size": 16, "prepare": [evil]})
    members = {"a": member.model_dump(), "b": a_member("b").model_dump()}
    path = tmp_path / "b.ens"
    write_bundle(path, changed(untrained, members=members), reference=False)
    check_refused(path, "a prepare step names code, 'evil:go', that is not run")


def test_a_view_by_code_is_not_run(untrained, tmp_path, evil):
    name = f"{evil}@12345678"
    views = {"views": (name,), "view_names": (name,)}
    member = a_member("a", **views, merging={"label": {"views": (name,)}})
    members = {"a": member.model_dump(), "b": a_member("b").model_dump()}
    path = tmp_path / "b.ens"
    write_bundle(path, changed(untrained, members=members), reference=False)
    check_refused(path, "view names code, 'evil:go', that is not run")


def test_a_backbone_by_code_in_the_record_is_not_run(untrained, tmp_path, evil):
    members = {"a": a_member("a", backbone=evil).model_dump(), "b": a_member("b")}
    path = tmp_path / "b.ens"
    write_bundle(path, changed(untrained, members=members), reference=False)
    check_refused(path, "member 'a' names code, 'evil:go', that is not run")


@pytest.mark.parametrize("backbone", ["evil:go", "torch.hub:load", "hf-hub:some/thing"])
def test_a_backbone_by_code_in_a_checkpoint_is_not_run(
    untrained, checkpoints, tmp_path, evil, backbone
):
    content = checkpoints[0]
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    said = json.loads(header["__metadata__"]["ensembler"])
    said["network"]["backbone"] = backbone
    header["__metadata__"]["ensembler"] = json.dumps(said)
    text = json.dumps(header).encode()
    forged = len(text).to_bytes(8, "little") + text + content[8 + size :]
    path = tmp_path / "b.ens"
    contents = {"members/a/fold0.safetensors": forged}
    write_bundle(path, changed(untrained, contents), reference=False)
    ensemble = open_bundle(path)
    with pytest.raises(StoreError, match=r"names (code to run|what is outside)"):
        ensemble.network("members/a/fold0.safetensors")


@pytest.mark.parametrize("key", ["method", "metric", "estimator"])
def test_a_blend_by_code_is_not_run(untrained, tmp_path, evil, key):
    state = fitted_state("ab")
    candidate = dict(state.values["candidate"])
    if key == "estimator":
        candidate |= {"method": "stack", "options": {"estimator": evil}}
    else:
        candidate[key] = evil
    forged = State(state.arrays, {**state.values, "candidate": candidate})
    contents = {"blends/soft.safetensors": forged.to_bytes()}
    path = tmp_path / "b.ens"
    write_bundle(path, changed(untrained, contents), reference=False)
    check_refused(path, "blend 'soft' names code, 'evil:go', that is not run")


def test_code_that_is_brought_along_is_run_only_when_it_is_trusted(
    untrained, tmp_path, evil
):
    source = (tmp_path / "evil.py").read_bytes()
    ensemble = changed(
        untrained,
        {"code/evil.py": source},
        code={evil: "view"},
        code_files=["code/evil.py"],
    )
    path = write_bundle(tmp_path / "b.ens", ensemble, reference=False)
    check_refused(path, r"needs code that it brings along, evil:go \(view\)")


@pytest.mark.parametrize("name", ["code/../evil.py", "code/evil", "code/a.b.py", "evil.py"])
def test_files_of_code_have_names_of_modules(untrained, tmp_path, name):
    code = {"code": {"evil:go": "view"}, "code_files": [name]}
    path = tmp_path / "b.ens"
    write_bundle(path, changed(untrained, {name: b""}, **code), reference=False)
    with pytest.raises(BundleError, match="no name of"):
        open_bundle(path, trust_code=True)


@pytest.mark.parametrize(
    "content",
    [b"", b"nothing", save({"a": np.zeros(2)}), save({}, {"format": "1", "state": "[]"})],
    ids=["empty", "text", "without a header", "another state"],
)
def test_a_state_that_is_none_is_refused(untrained, tmp_path, content):
    contents = {"blends/soft.safetensors": content}
    path = tmp_path / "b.ens"
    write_bundle(path, changed(untrained, contents), reference=False)
    with pytest.raises(BundleError, match="is no fitted blend"):
        open_bundle(path)


def test_a_state_of_other_members_is_refused(untrained, tmp_path):
    contents = {"blends/soft.safetensors": fitted_state("ba").to_bytes()}
    path = tmp_path / "b.ens"
    write_bundle(path, changed(untrained, contents), reference=False)
    with pytest.raises(BundleError, match="is a blend of other members"):
        open_bundle(path)


def test_a_blend_that_is_made_of_itself_is_refused(untrained, tmp_path):
    tasks = {"target": "label", "method": "composed", "tasks": {"label": "soft"}}
    path = tmp_path / "b.ens"
    write_bundle(path, changed(untrained, blends={"soft": tasks}), reference=False)
    with pytest.raises(BundleError, match="blend 'soft' is made of itself"):
        open_bundle(path)


@pytest.mark.parametrize(
    "content",
    [b"", b"nothing", bytes(8) + b"{}", b"\xff" * 64],
    ids=["empty", "text", "short", "noise"],
)
def test_a_checkpoint_that_is_none_is_refused(untrained, tmp_path, content):
    contents = {"members/a/fold0.safetensors": content}
    path = tmp_path / "b.ens"
    write_bundle(path, changed(untrained, contents), reference=False)
    with pytest.raises(StoreError, match="is not a checkpoint of a member"):
        open_bundle(path).network("members/a/fold0.safetensors")


def test_another_class_order_under_a_fitting_signature_is_refused(untrained, tmp_path):
    turned = [*CLASSES[1:], CLASSES[0]]
    members = {
        name: a_member(name, targets={"label": turned}).model_dump() for name in "ab"
    }
    path = tmp_path / "b.ens"
    write_bundle(path, changed(untrained, members=members), reference=False)
    with pytest.raises(BundleError, match="was trained for the classes cat, dog, eel"):
        open_bundle(path).network("members/a/fold0.safetensors")


def test_other_probabilities_than_those_of_the_reference_are_an_error(
    untrained, written, tmp_path
):
    path = tmp_path / "b.ens"
    archive = open_archive(written)
    contents = {name: partial(archive.read, name) for name in archive.record.sha256}
    contents["reference/soft.npy"] = lambda: npy(np.eye(3, dtype=np.float32)[[0] * 12])
    write_archive(path, archive.record, contents)
    with pytest.raises(StoreError, match="its reference images get other probabilities"):
        check_reference(Networks(open_bundle(path), "cpu"))


def test_a_blend_may_be_called_like_one_of_its_members(untrained, tmp_path):
    blend = untrained.record.blends["soft"].model_dump()
    named = changed(untrained, blends={"a": blend}, answers=["a"])
    path = write_bundle(tmp_path / "b.ens", named, reference=False)
    assert open_bundle(path).record.answers == ("a",)
