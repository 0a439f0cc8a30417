import numpy as np
import pytest
import torch
from engine_trials import PIXELS, gap, get_ready, network, small
from torch import nn

from ensembler.inference.engines import choose, eager, registry
from ensembler.inference.engines.choose import TOLERANCE, fastest
from ensembler.inference.predictor import as_images
from ensembler.networks.build import Normalised


@pytest.mark.parametrize("engine", ["eager", "openvino", "onnx"])
@pytest.mark.parametrize("amp", ["off", "bf16"])
def test_an_engine_agrees_with_float32_for_batches_of_any_size(engine, amp):
    if not registry.is_installed(engine):
        pytest.skip(f"the extra {engine} is not installed")
    # exporting takes seconds for each layer
    load, notes = network if engine == "eager" else small, []
    predictor = get_ready(engine, load, amp=amp, notes=notes)
    reference = eager.plain(load(), "cpu")
    for n in (6, 1, 3):
        images = as_images(PIXELS[:n], "cpu")
        assert predictor(images).dtype == np.float32
        assert gap(predictor(images), reference(images)) < (
            1e-5 if amp == "off" else TOLERANCE
        )
    assert notes == []


def test_a_network_that_an_engine_cannot_compute_is_computed_in_float32_and_that_is_said(
    monkeypatch,
):
    def fail(*_):
        raise RuntimeError("no such operator\nand more")

    monkeypatch.setattr(eager, "prepare", fail)
    notes = []
    predictor = get_ready("eager", small, notes=notes)
    images = as_images(PIXELS, "cpu")
    assert np.array_equal(predictor(images), eager.plain(small(), "cpu")(images))
    assert notes == [
        "cnn fold 0: engine eager cannot compute it (no such operator); plain float32 does"
    ]


def test_an_engine_that_is_off_is_not_used_and_that_is_said(monkeypatch):
    honest = eager.prepare
    monkeypatch.setattr(
        eager, "prepare", lambda *given: lambda images: 3 * honest(*given)(images)
    )
    notes = []
    predictor = get_ready("default", notes=notes)
    images = as_images(PIXELS, "cpu")
    assert np.array_equal(predictor(images), eager.plain(network(), "cpu")(images))
    assert "engine eager is off by 0." in notes[0]
    assert notes[0].endswith("in a probability; plain float32 computes instead")


def test_the_fastest_engine_is_the_one_that_is_done_first(monkeypatch):
    made = {"eager": (0.0, 0.02), "openvino": (0.4, 0.002)}
    monkeypatch.setattr(choose, "candidates", lambda _: ["eager", "openvino"])

    class Clock:
        now = 0.0

    clock = Clock()

    def load_engine(name):
        def prepare(*given):
            clock.now += made[name][0]

            def predictor(images):
                clock.now += made[name][1]
                return np.zeros((len(images), 2), np.float32)

            return predictor

        return prepare

    monkeypatch.setattr(choose.ENGINES, "load", load_engine)
    monkeypatch.setattr(choose.time, "perf_counter", lambda: clock.now)
    options = {"networks": 5, "amp": "off", "device": "cpu"}
    assert fastest(network, PIXELS, 10, **options).engine == "eager"
    assert fastest(network, PIXELS, 1000, **options).engine == "openvino"


def test_on_a_device_engines_are_timed_on_as_many_images_as_a_pass_gives_them(monkeypatch):
    # of a graph of 512 images all are computed, whatever it is given
    seconds = {"eager": lambda n: 0.002 * n / 64, "graph": lambda _: 0.008}
    now = [0.0]

    def load_engine(name):
        def predictor(images):
            now[0] += seconds[name](len(images))
            return np.zeros((len(images), 2), np.float32)

        return lambda *_: predictor

    monkeypatch.setattr(choose, "candidates", lambda _: list(seconds))
    monkeypatch.setattr(choose, "pick_device", lambda _: torch.device("cuda"))
    monkeypatch.setattr(choose, "predicting_precisions", lambda *_: ("off",))
    monkeypatch.setattr(choose, "as_images", lambda pixels, _: as_images(pixels, "cpu"))
    monkeypatch.setattr(choose.ENGINES, "load", load_engine)
    monkeypatch.setattr(choose.time, "perf_counter", lambda: now[0])
    options = {"networks": 1, "amp": "off", "device": "cuda"}
    many = fastest(network, PIXELS, 1000, **options)
    assert many.engine == "graph"
    assert many.batch == pytest.approx({"eager": 0.002, "graph": 0.001})
    assert fastest(network, PIXELS, 1, **options).engine == "eager"


class Wide(nn.Module):
    """A network whose inner values are beyond float16 and well within bfloat16."""

    def __init__(self, scale):
        super().__init__()
        self.scale = scale
        self.inner = nn.Linear(3, 5)

    def forward(self, images):
        inner = self.inner(images.mean(dim=(2, 3))) * self.scale
        return inner / self.scale


def wide(scale):
    torch.manual_seed(1)
    return Normalised(Wide(scale), (0.5,) * 3, (0.25,) * 3).eval()


@pytest.fixture
def like_cuda(monkeypatch):
    """The order of precisions that a CUDA device has, tried here."""
    tried = []
    monkeypatch.setattr(choose, "predicting_precisions", lambda *_: ("fp16", "bf16"))
    real = choose.ENGINES.load

    def load(name):
        def prepare(network, sample, amp, device):
            tried.append(amp)
            return real(name)(network, sample, amp, device)

        return prepare

    monkeypatch.setattr(choose.ENGINES, "load", load)
    return tried


@pytest.mark.parametrize(("scale", "expected"), [(1.0, ["fp16"]), (1e6, ["fp16", "bf16"])])
def test_float16_predicts_where_its_range_is_enough_and_bfloat16_elsewhere(
    like_cuda, scale, expected
):
    notes = []
    predictor = get_ready("eager", lambda: wide(scale), "auto", notes)
    images = as_images(PIXELS, "cpu")
    assert like_cuda == expected
    assert notes == []
    assert 0 < gap(predictor(images), eager.plain(wide(scale), "cpu")(images)) < TOLERANCE


def test_one_hard_image_of_many_does_not_decide_about_an_engine():
    stray = np.full(32, 0.004)
    stray[7] = 0.05
    assert choose.agree(stray)
    assert not choose.agree(np.append(stray[:31], 0.2))
    assert not choose.agree(np.full(32, 0.021))
    assert not choose.agree(np.append(stray[:31], np.inf))


def test_a_network_that_its_engine_can_compute_is_loaded_once():
    loaded = []

    def load():
        loaded.append(torch.nn.Flatten())
        return loaded[-1]

    pixels = np.zeros((2, 1, 1, 3), np.uint8)
    choose.ready("eager", load, pixels, amp="off", device="cpu", name="flat")
    assert len(loaded) == 1
