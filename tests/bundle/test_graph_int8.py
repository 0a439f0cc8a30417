"""Graphs in 8 bits: how they are judged, and one from end to end where nncf is installed."""

import shutil
import sys
from dataclasses import replace

import numpy as np
import pytest

from ensembler.bundle import graph_int8
from ensembler.bundle.graph import export_graph
from ensembler.bundle.graph_images import ImageSet, JudgedImages, thirds_of
from ensembler.bundle.graph_int8 import (
    MOST_LOSS,
    Int8Cost,
    _Judge,
    check_cost,
    check_int8,
    cross_entropy,
    fit_temperature,
)
from ensembler.errors import EnsemblerError, MissingExtraError, RequestError
from ensembler.logits import softmax
from ensembler.targets.kinds import MULTI_LABEL, SINGLE_LABEL

RNG = np.random.default_rng(5)


def judge_of(truth, kind=SINGLE_LABEL):
    judge = _Judge.__new__(_Judge)
    judge.images = JudgedImages(None, None, None, "labels", truth)
    judge.kinds = [kind]
    return judge


def sharpened(probs, by):
    return softmax(by * np.log(probs))


def test_the_temperature_brings_back_what_was_sharpened():
    probs = softmax(RNG.normal(size=(400, 5)))
    assert fit_temperature(probs, sharpened(probs, 2.0)) == pytest.approx(2.0, abs=1e-3)
    assert fit_temperature(probs, probs) == pytest.approx(1.0, abs=1e-3)


def test_labels_judge_and_nothing_is_fitted_to_them():
    probs = softmax(RNG.normal(size=(60, 4)))
    truth = np.eye(4)[RNG.integers(0, 4, 60)]
    judge = judge_of(truth)
    assert judge.losses([probs], [sharpened(probs, 3.0)]) == pytest.approx(
        (cross_entropy(truth, probs), cross_entropy(truth, sharpened(probs, 3.0)))
    )
    assert judge.temperatures([probs], [sharpened(probs, 3.0)]) == pytest.approx(
        [3.0], abs=0.01
    )


def test_without_labels_the_cost_is_the_divergence_from_float32():
    probs = softmax(RNG.normal(size=(60, 4)))
    other = softmax(np.log(probs) + 0.2 * RNG.normal(size=probs.shape))
    before, after = judge_of(None).losses([probs], [other])
    assert before == pytest.approx(cross_entropy(probs, probs))
    assert 0 < after - before < 0.1


def test_of_several_labels_each_is_judged_by_itself():
    probs = RNG.uniform(0.1, 0.9, size=(40, 3))
    truth = (RNG.uniform(size=(40, 3)) < probs).astype(float)
    judge = judge_of(truth, MULTI_LABEL)
    before, _ = judge.losses([probs], [probs])
    each = -np.log(np.where(truth == 1, probs, 1 - probs))
    assert before == pytest.approx(each.mean())
    assert judge.changed([probs], [1 - probs]) == 40


def test_an_image_calibrates_or_tempers_or_judges():
    parts = thirds_of(ImageSet("10 images", None, np.arange(10), ()))
    rows = [set(part.rows) for part in (parts.calibration, parts.tempering, parts.judged)]
    assert sum(map(len, rows)) == len(set.union(*rows)) == 10


def test_int8_needs_openvino_and_nncf(monkeypatch):
    with pytest.raises(RequestError, match="--int8 is for --format openvino, not for onnx"):
        check_int8("onnx")
    monkeypatch.setattr(graph_int8, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r"ensembler-toolkit\[int8\]"):
        check_int8("openvino")


@pytest.mark.parametrize("loss", [1.0051, np.nan])
def test_a_cost_above_what_is_allowed_is_refused(loss):
    cost = Int8Cost(1.0, loss, loss - 1.0, 40, "labels", "a", "b", (1.0,), 0.1, 2, {})
    with pytest.raises(EnsemblerError, match=r"on 40 rows judged by labels.*--max-loss"):
        check_cost(cost, MOST_LOSS)
    check_cost(replace(cost, cost=0.005), MOST_LOSS)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_graph_in_int8_states_its_cost(
    tmp_path_factory, finished_run, tmp_path, monkeypatch
):
    pytest.importorskip("nncf", reason="the extra int8 is not installed")
    from ensembler.bundle.graph_files import run_openvino
    from ensembler.bundle.open import open_ensemble
    from ensembler.predictions.store import RunStore

    folder = tmp_path_factory.mktemp("int8") / "run"
    shutil.copytree(finished_run, folder)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.chdir(folder)
    store = RunStore.open(folder / "artifacts" / "shapes")
    ensemble = open_ensemble(store.folder)
    out = tmp_path / "small.xml"
    made = export_graph(ensemble, "openvino", out, store=store, int8=True, max_loss=1.0)
    cost = made.int8
    assert cost.rows > 0
    assert cost.cost == pytest.approx(cost.log_loss_int8 - cost.log_loss_float32)
    assert "train images" in cost.calibrated_on
    assert "train images" in cost.tempered_on
    assert 1e-5 < made.max_difference < 0.2
    assert all(value > 0 for pair in cost.cpu_ms.values() for value in pair)
    images = {"images": RNG.integers(0, 256, (5, 16, 16, 3), dtype=np.uint8)}
    (probs,) = run_openvino(out, out.with_suffix(".bin"), ["images"])(images)
    assert probs.sum(axis=1) == pytest.approx(np.ones(5), abs=1e-5)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["small.bin", "small.xml"]
    sys.modules.pop("tinynets", None)
