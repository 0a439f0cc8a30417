"""`benchmarks/gpu.py` runs: every part on the processor, with test networks, as small as it gets."""

import json
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def gpu():
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import gpu as benchmark
    finally:
        sys.path.remove(str(BENCHMARKS))
    yield benchmark
    del sys.modules["gpu"]


def run(gpu, part, tmp_path, *options):
    out = tmp_path / f"{part}.json"
    gpu.main(["--part", part, "--device", "cpu", "--out", str(out), *options])
    return json.loads(out.read_text())


@pytest.mark.filterwarnings("ignore")  # of the loops by hand, which are no code of ours
def test_training_is_measured_beside_its_anchors(gpu, tmp_path):
    found = run(gpu, "train", tmp_path)
    rows = {row["name"]: row for row in found["rows"]}
    assert set(rows) == {"plain", "resident", "synthetic", "compiled", "ens"}
    for name, row in rows.items():
        assert row["train_images_a_second"] > 0
        assert len(row["training"]) == 2
        assert all(seconds > 0 for seconds in row["validating"])
        assert (row["accuracy"] is None) == (name == "synthetic")
    assert {"part", "device", "versions", "cuda", "cores"} <= set(found)


@pytest.mark.filterwarnings("ignore")
def test_presets_and_prediction_are_measured_in_all_their_places(gpu, tmp_path):
    names = {row["name"] for row in run(gpu, "presets", tmp_path)["rows"]}
    assert {"none", "light on device", "light on host", "heavy on device", "flip"} <= names
    rows = {row["name"]: row for row in run(gpu, "tta", tmp_path)["rows"]}
    assert {"forward", "ens"} <= set(rows)
    assert rows["ens"]["images_a_second"] > 0
    assert rows["ens"]["largest_difference"] < 0.02


@pytest.mark.filterwarnings("ignore")
def test_a_job_is_compared_with_plain_loops_on_the_same_rows(gpu, tmp_path):
    ours, theirs = run(gpu, "job", tmp_path)["rows"]
    assert [ours["name"], theirs["name"]] == ["ens run", "plain loops"]
    for row in (ours, theirs):
        assert row["seconds"] > row["seconds_training"] > 0
        assert row["seconds_validating"] > 0
        assert 0 <= row["holdout_accuracy"] <= 1


def test_rates_are_of_the_epochs_after_the_first_and_the_rest_is_start(gpu):
    side = gpu.Side(
        "a", 100, training=[9.0, 2.0, 2.0], validating=[1.0, 0.5, 0.5], seconds=20.0
    )
    assert side.rate == 50
    assert side.epoch_rate == 40
    assert side.start == 12.5
