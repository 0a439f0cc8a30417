"""A finished run becomes a bundle, and the bundle predicts what the run does."""

import json
import os
import shutil
import signal
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from ensembler import Predictor
from ensembler.blending.spec import BlendSpec
from ensembler.blends.blend import blend_run
from ensembler.bundle.networks import Networks
from ensembler.bundle.of_run import ensemble_of_run
from ensembler.bundle.open import open_bundle, open_ensemble
from ensembler.bundle.pack import check_can_be_kept, pack_run
from ensembler.errors import DataError, DiskFullError, MissingFileError, RequestError
from ensembler.pipeline.predict_new import predict_new
from ensembler.predictions.store import RunStore
from ensembler.reporting.spec import SubmissionSpec
from ensembler.workspace.workspace import workspace_of_run


@pytest.fixture
def store(finished):
    return RunStore(finished.parent / "artifacts" / "shapes")


@pytest.fixture
def packed(packed_run, finished, tmp_path):
    """A bundle of the run, and what was said of it."""
    bundle = tmp_path / "out" / "shapes.ens"
    bundle.parent.mkdir()
    shutil.copy(packed_run.bundle, bundle)
    return replace(packed_run, bundle=bundle)


def test_a_bundle_predicts_bit_for_bit_what_the_run_predicts(store, packed, finished):
    manifest = finished.parent / "shapes" / "test.csv"
    spec = SubmissionSpec(format="probs", columns=("id",))
    by_run = predict_new(workspace_of_run(store), manifest, spec=spec)
    wanted = pd.read_csv(by_run.out, dtype={"id": str}).set_index("id")
    shutil.rmtree(store.folder)
    predictor = Predictor.load(packed.bundle, device="cpu", trust_code=True)
    paths = [manifest.parent / p for p in pd.read_csv(manifest)["path"]]
    assert predictor.classes_.tolist() == wanted.columns.tolist()
    assert np.array_equal(predictor(paths), wanted.to_numpy().astype(np.float32))


def test_what_is_said_of_a_bundle(store, packed):
    assert packed.bytes == packed.bundle.stat().st_size
    assert (packed.members, packed.checkpoints) == (("narrow", "wide"), 6)
    assert packed.compared == len(store.samples.test)
    assert packed.max_difference < 1e-6
    record = open_bundle(packed.bundle, trust_code=True).record
    assert record.name == "shapes"
    assert record.targets["label"].classes == store.classes("label")
    assert record.code == {"tinynets:tiny": "backbone"}
    assert record.versions["torch"]
    assert record.members["wide"].provenance.start == "random"
    scores = record.scores["soft"]
    assert scores["cross_fitted"]["log_loss"] > 0
    interval = scores["interval"]
    assert interval["metric"] == "log_loss"
    assert interval["low"] < scores["cross_fitted"]["log_loss"] < interval["high"]


def test_a_run_is_opened_like_its_bundle(store, packed):
    of_run = open_ensemble(store.folder)
    of_bundle = open_ensemble(packed.bundle, trust_code=True)
    assert of_run.record.members == of_bundle.record.members
    assert of_run.record.blends == of_bundle.record.blends
    entry = of_run.networks[0].checkpoints[0]
    assert of_run.read(entry) == of_bundle.read(entry)


def test_smaller_weights_are_half_the_size_and_say_what_they_change(
    store, packed, finished, tmp_path
):
    code = [finished.parent / "tinynets.py"]
    for precision in ("bfloat16", "float16"):
        path = tmp_path / f"{precision}.ens"
        small = pack_run(store, path, precision=precision, with_code=code)
        assert small.bytes < packed.bytes
        assert 0 < small.max_difference < 0.05
        assert Predictor.load(path, device="cpu", trust_code=True) is not None


def test_code_is_refused_without_its_file(store, finished, tmp_path):
    path = tmp_path / "b.ens"
    with pytest.raises(RequestError, match=r"tinynets:tiny.*--with-code tinynets\.py"):
        pack_run(store, path)
    other = tmp_path / "elsewhere" / "tinynets.py"
    other.parent.mkdir()
    other.write_text("def tiny(): ...\n")
    with pytest.raises(RequestError, match="is not the file that 'tinynets:tiny' is in"):
        pack_run(store, path, with_code=[other])
    with pytest.raises(RequestError, match="expected a Python file"):
        pack_run(store, path, with_code=[tmp_path / "none.py"])
    assert not path.exists()


def test_what_no_bundle_can_hold_is_refused(store, fake_run, finished, tmp_path):
    with pytest.raises(MissingFileError, match="has no blend yet"):
        pack_run(fake_run, tmp_path / "b.ens")
    blend_run(fake_run, BlendSpec(method="soft"))
    with pytest.raises(RequestError, match="was not made from a recipe"):
        pack_run(RunStore(fake_run.folder), tmp_path / "b.ens")
    with pytest.raises(RequestError, match=r"unknown blend .sof..*.soft."):
        pack_run(store, tmp_path / "b.ens", blend="sof")
    with pytest.raises(RequestError, match=r"ends in \.ens"):
        pack_run(store, tmp_path / "b.zip")
    ensemble = ensemble_of_run(store)
    member = ensemble.record.members["wide"]
    cut = member.model_copy(
        update={"input": member.input.model_copy(update={"prepare": ("rembg",)})}
    )
    record = ensemble.record.model_copy(update={"members": {"wide": cut}})
    with pytest.raises(RequestError, match="rembg reads weights of its own"):
        check_can_be_kept(replace(ensemble, record=record))


def test_a_blend_without_its_fitted_state_is_refused(store, tmp_path):
    folder = store.blend_folder("soft")
    record = json.loads((folder / "blend.json").read_text())
    record["sha256"].pop("blend.safetensors")
    (folder / "blend.json").write_text(json.dumps(record))
    with pytest.raises(RequestError, match="'soft' has no fitted state in the store"):
        pack_run(store, tmp_path / "b.ens")


def test_a_member_of_weight_zero_is_not_packed(store, finished, tmp_path):
    spec = BlendSpec(method="weights", weights={"narrow": 1.0, "wide": 0.0}, name="one")
    made = blend_run(store, spec)
    store = RunStore(store.folder)
    ensemble = ensemble_of_run(store, "one")
    assert [member.name for member in ensemble.networks] == ["narrow"]
    code = [finished.parent / "tinynets.py"]
    packed = pack_run(store, tmp_path / "b.ens", blend="one", with_code=code)
    assert packed.members == ("narrow",)
    assert packed.max_difference < 1e-6
    assert made.weights["wide"] == 0


def test_without_the_images_the_reference_is_what_is_compared(
    store, finished, tmp_path, monkeypatch
):
    def gone(*_):
        raise DataError("there is no such image")

    monkeypatch.setattr("ensembler.bundle.own_images.read_samples", gone)
    code = [finished.parent / "tinynets.py"]
    packed = pack_run(store, tmp_path / "b.ens", with_code=code)
    assert (packed.compared, packed.max_difference) == (0, 0.0)


def test_a_full_disk_leaves_nothing_behind(store, finished, small_disk):
    code = [finished.parent / "tinynets.py"]
    (small_disk / "filler").write_bytes(bytes(900_000))
    with pytest.raises(DiskFullError, match="no room left to write"):
        pack_run(store, small_disk / "b.ens", with_code=code)
    assert [path.name for path in small_disk.iterdir()] == ["filler"]


# --- processes of their own


@pytest.fixture
def many(packed, finished, tmp_path):
    """A folder with the bundle and a manifest of 1,600 rows, and no run in it."""
    shutil.rmtree(finished.parent / "artifacts")
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    shutil.copy(packed.bundle, folder / "b.ens")
    shutil.move(finished.parent / "shapes" / "images", folder / "images")
    shutil.rmtree(finished.parent / "shapes")
    names = sorted(path.name for path in (folder / "images").iterdir())
    rows = [f"images/{names[i % len(names)]},{i}" for i in range(1600)]
    (folder / "many.csv").write_text("\n".join(["path,id", *rows]))
    return folder


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_killed_prediction_resumes_two_at_once_agree_and_so_do_two_processes(many, ens):
    ens.folder = many
    given = ["predict", "b.ens", "many.csv", "--trust-code", "--quiet"]
    ens(*given, "--out", "whole.csv")
    process = ens.start(*given, "--out", "killed.csv")
    while not any(path.read_text() for path in many.glob(".killed.csv.*/0/*.chunks")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (many / "killed.csv").exists()
    ens(*given, "--out", "killed.csv")
    both = [ens.start(*given, "--out", "both.csv") for _ in range(2)]
    for one in both:
        _, err = one.communicate()
        assert one.returncode == 0, err
    ens(*given, "--out", "shared.csv", "--jobs", "2")
    whole = pd.read_csv(many / "whole.csv")
    for name in ("killed", "both"):
        assert (many / f"{name}.csv").read_bytes() == (many / "whole.csv").read_bytes()
    shared = pd.read_csv(many / "shared.csv")
    assert np.allclose(
        shared.iloc[:, 2:-1].to_numpy(), whole.iloc[:, 2:-1].to_numpy(), atol=1e-5
    )
    assert list(many.glob(".*.parts")) == list(many.glob(".*.lock")) == []


def test_engines_are_compared_on_the_reference_alone(packed):
    networks = Networks(open_bundle(packed.bundle, trust_code=True), "cpu", "traced")
    entry = networks.ensemble.networks[0].checkpoints[0]
    assert networks.ready(entry) is networks.ready(entry)
