"""What a device does in each path: on the processor, and with faults that are part of the report."""

import json
from pathlib import Path

import pytest
import torch

from ensembler.errors import RequestError
from ensembler.pipeline import doctor_gpu
from ensembler.pipeline.doctor_gpu import DeviceReport, Found, Size, Tried, try_device
from ensembler.progress import RecordedProgress

TINY = Size("test_resnet", 32, 4, batches=2, epochs=1)


def test_every_path_has_a_rate_or_a_reason(monkeypatch):
    real = doctor_gpu._Trial._predict

    def predict(self, engine):
        if engine == "traced":
            raise RuntimeError("no kernel image\nadvice")
        return real(self, engine)

    monkeypatch.setattr(doctor_gpu._Trial, "_predict", predict)
    progress = RecordedProgress()
    report = try_device("cpu", progress, TINY)
    found = {(one.part, one.path): one for one in report.tried}
    parts = {part for part, _ in found}
    assert parts == {"training", "synthetic", "augmentation", "predicting", "decoding"}
    assert {path for part, path in found if part == "augmentation"} == {
        "light on host",
        "light on device",
    }
    failed = found.pop(("predicting", "engine traced"))
    assert failed.text == "predicting, engine traced: RuntimeError: no kernel image"
    for one in found.values():
        assert one.fault is None, one.text
        assert one.rate > 0
        assert one.bytes is None
    assert found["predicting", "engine eager"].difference < 0.02
    assert report.of_synthetic > 0
    assert progress.steps[-1] == ("trying the device", len(report.tried), len(report.tried))
    told = json.loads(json.dumps(report.to_json()))
    assert told["tried"][0]["rate"] == report.tried[0].rate
    assert len(report.lines) == len(report.tried) + 3


def test_after_a_minute_nothing_more_is_tried(monkeypatch):
    monkeypatch.setattr(doctor_gpu, "MOST_SECONDS", -1.0)
    report = try_device("cpu", size=TINY)
    assert {one.fault for one in report.tried} == {"not tried: a minute is over"}
    assert report.of_synthetic is None


def test_a_card_is_tried_with_graphs_and_a_compiled_step_last():
    trial = doctor_gpu._Trial("cuda", torch.device("cuda"), TINY, Path())
    paths = [(part, path) for part, path, _ in trial.paths]
    assert ("training", "step graph") in paths
    assert ("training", "amp fp16") in paths
    assert ("predicting", "engine graph") in paths
    assert ("decoding", "JPEG files by nvJPEG") in paths
    assert paths[-1] == ("training", "step compile")


def test_a_line_has_rate_memory_difference_and_what_a_run_would_note():
    line = Tried(
        "training", "step graph", 1234.5, 2_500_000_000, 1e-3, notes=("a note",)
    ).text
    assert line == "training, step graph: 1,234 images/s, 2.50 GB, off by 1.0e-03, a note"
    report = DeviceReport("cpu", "n", 32, 4, 1.0, (Tried("synthetic", "x", 10.0),))
    assert report.of_synthetic is None


def test_a_device_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(RequestError, match="--device 'cuda'"):
        try_device("cuda")


def test_memory_is_counted_on_a_card_alone():
    with doctor_gpu._peak(torch.device("cpu")) as peak:
        assert Found(1.0).difference is None
    assert peak.bytes is None


@pytest.mark.gpu
@pytest.mark.timeout(300)
def test_on_a_card_every_path_computes():
    report = try_device("cuda", size=Size("resnet18", 32, 16, batches=4, epochs=2))
    assert [one.text for one in report.tried if one.fault] == []
    assert all(one.bytes for one in report.tried)
