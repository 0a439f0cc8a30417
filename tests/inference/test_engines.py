import copy
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from ensembler.errors import MissingExtraError, RequestError, UnknownNameError
from ensembler.inference.engines import choose, eager, registry, traced
from ensembler.inference.engines.choose import TOLERANCE, fastest, ready
from ensembler.inference.predictor import as_images
from ensembler.inference.spec import InferenceSpec
from ensembler.logits import softmax
from ensembler.networks.build import Normalised, build_network
from ensembler.networks.spec import NetworkSpec
from ensembler.progress import RecordedProgress

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)


def network(backbone="resnet10t"):
    torch.manual_seed(0)
    built = build_network(NetworkSpec(backbone=backbone), classes=5, size=32, channels=3)
    with torch.no_grad():
        for module in built.modules():
            if isinstance(
                module, nn.BatchNorm2d
            ):  # as after some training: nothing is zero or one any more
                module.running_mean.normal_(0, 0.2)
                module.running_var.uniform_(0.5, 2)
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0, 0.2)
    return built.eval()


def get_ready(engine, load=network, amp="off", notes=None):
    progress = RecordedProgress()
    progress.notes = [] if notes is None else notes
    return ready(engine, load, PIXELS, amp=amp, device="cpu", name="cnn fold 0", progress=progress)


def gap(a, b):
    return np.abs(softmax(a) - softmax(b)).max()


@pytest.mark.parametrize("engine", ["eager", "openvino", "onnx"])
@pytest.mark.parametrize("amp", ["off", "bf16"])
def test_an_engine_agrees_with_float32_for_batches_of_any_size(engine, amp):
    if not registry.is_installed(engine):
        pytest.skip(f"the extra {engine} is not installed")
    notes = []
    predictor = get_ready(engine, amp=amp, notes=notes)
    reference = eager.plain(network(), "cpu")
    for n in (6, 1, 3):
        images = as_images(PIXELS[:n], "cpu")
        assert predictor(images).dtype == np.float32
        assert gap(predictor(images), reference(images)) < (1e-5 if amp == "off" else TOLERANCE)
    assert notes == []


def small():
    torch.manual_seed(0)
    layers = [
        nn.Conv2d(3, 8, 3, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    ]
    layers[1].running_mean.normal_(0, 0.2)
    return Normalised(nn.Sequential(*layers, nn.Linear(8, 5)), (0.5,) * 3, (0.25,) * 3).eval()


@pytest.mark.parametrize("amp", ["off", "bf16"])
def test_a_traced_network_computes_batches_of_any_size_in_one_way(amp, monkeypatch):
    monkeypatch.setattr(traced, "BATCH", 4)
    notes = []
    predictor, reference = get_ready("traced", amp=amp, notes=notes), eager.plain(network(), "cpu")
    for n in (4, 3, 6):  # a whole batch, one that is filled up, one that is divided
        images = as_images(PIXELS[:n], "cpu")
        assert predictor(images).shape == (n, 5)
        assert np.array_equal(predictor(images), predictor(images))
        assert gap(predictor(images), reference(images)) < (1e-5 if amp == "off" else TOLERANCE)
    assert not torch.jit.onednn_fusion_enabled()
    assert notes == []


def test_a_fused_graph_that_computes_something_else_is_not_used(monkeypatch):
    monkeypatch.setattr(traced, "_fused", lambda net, _: lambda images: -net(images))
    notes = []
    predictor = get_ready("traced", notes=notes)
    assert "plain float32 computes instead" in notes[0]
    images = as_images(PIXELS, "cpu")
    assert np.array_equal(predictor(images), eager.plain(network(), "cpu")(images))


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.parametrize("amp", ["off", "bf16"])
def test_a_compiled_network_agrees_with_float32_for_batches_of_any_size(amp):
    notes = []
    predictor = get_ready("compile", small, amp=amp, notes=notes)
    reference = eager.plain(small(), "cpu")
    for n in (6, 3):
        images = as_images(PIXELS[:n], "cpu")
        assert gap(predictor(images), reference(images)) < (1e-5 if amp == "off" else TOLERANCE)
    assert notes == []


@pytest.mark.parametrize(
    "backbone", ["resnet10t", "mobilenetv3_small_050", "convnext_atto", "vit_tiny_patch16_224"]
)
def test_folding_batch_norms_changes_nothing_but_rounding(backbone):
    built = network(backbone)
    images = as_images(PIXELS, "cpu")
    before = eager.plain(copy.deepcopy(built), "cpu")(images)
    folded = eager.fold_batch_norms(built)
    assert np.allclose(eager.plain(folded, "cpu")(images), before, atol=1e-4)
    left = sum(type(m) is nn.BatchNorm2d for m in folded.modules())
    assert left == 0 or backbone != "resnet10t"


class Odd(nn.Module):
    """Calls a convolution twice, and looks at its weights: nothing here may be folded."""

    def __init__(self):
        super().__init__()
        self.shared, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
        self.seen, self.other = nn.Conv2d(3, 5, 1), nn.BatchNorm2d(5)
        self.other.running_mean.fill_(0.5)
        self.norm.running_mean.fill_(0.5)

    def forward(self, pixels):
        x = self.shared(self.norm(self.shared(pixels.float() / 255)))
        return self.other(self.seen(x)).mean((2, 3)) + self.seen.weight.sum()


def test_what_is_used_twice_or_looked_at_is_not_folded():
    odd = Odd().eval()
    images = as_images(PIXELS, "cpu")
    before = eager.plain(copy.deepcopy(odd), "cpu")(images)
    assert np.allclose(eager.plain(eager.fold_batch_norms(odd), "cpu")(images), before, atol=1e-5)
    assert isinstance(odd.norm, nn.BatchNorm2d)
    assert isinstance(odd.other, nn.BatchNorm2d)


class DataDependent(nn.Module):
    """Cannot be traced, and is in float32 whatever its weights are in."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(3, 5)

    def forward(self, x):
        mean = x.float().mean((2, 3))
        return self.linear(mean if mean.sum() > 0 else -mean)


def load_own():
    return Normalised(DataDependent(), (0.5,) * 3, (0.25,) * 3).eval()


def test_a_network_of_ones_own_that_takes_no_16_bit_weights_is_computed_under_autocast():
    notes = []
    predictor = get_ready("eager", load_own, "bf16", notes)
    images = as_images(PIXELS, "cpu")
    assert 0 < gap(predictor(images), eager.plain(load_own(), "cpu")(images)) < TOLERANCE
    assert notes == []


def test_a_network_that_an_engine_cannot_compute_is_computed_in_float32_and_that_is_said(
    monkeypatch,
):
    def fail(*_):
        raise RuntimeError("no such operator\nand more")

    monkeypatch.setattr(eager, "prepare", fail)
    notes = []
    predictor = get_ready("eager", load_own, notes=notes)
    images = as_images(PIXELS, "cpu")
    assert np.array_equal(predictor(images), eager.plain(load_own(), "cpu")(images))
    assert notes == [
        "cnn fold 0: engine eager cannot compute it (no such operator); plain float32 does"
    ]


def test_an_engine_that_is_off_is_not_used_and_that_is_said(monkeypatch):
    honest = eager.prepare
    monkeypatch.setattr(eager, "prepare", lambda *given: lambda images: 3 * honest(*given)(images))
    notes = []
    predictor = get_ready("default", notes=notes)
    images = as_images(PIXELS, "cpu")
    assert np.array_equal(predictor(images), eager.plain(network(), "cpu")(images))
    assert "engine eager is off by 0." in notes[0]
    assert notes[0].endswith("in a probability; plain float32 computes instead")


def test_the_fastest_engine_is_the_one_that_is_done_first(monkeypatch):
    made = {"eager": (0.0, 0.02), "openvino": (0.4, 0.002)}
    monkeypatch.setattr(choose, "_candidates", lambda _: ["eager", "openvino"])

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


@pytest.mark.parametrize("engine", ["openvino", "onnx"])
def test_a_missing_extra_is_named_and_the_request_is_wrong(engine, monkeypatch):
    monkeypatch.setattr(registry, "find_spec", lambda _: None)
    with pytest.raises(
        MissingExtraError, match=rf"engine: {engine} needs the extra '{engine}'"
    ) as caught:
        get_ready(engine)
    assert isinstance(caught.value, RequestError)
    assert caught.value.exit_code == 2


@pytest.mark.skipif(
    not registry.is_installed("openvino"), reason="the extra openvino is not installed"
)
def test_openvino_finds_nothing_to_report_its_use_with():
    code = (
        "import torch; from ensembler.inference.engines import openvino\n"
        "images = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)\n"
        "network = torch.nn.Flatten().eval()\n"
        "openvino.prepare(network, images, 'off', 'cpu')(images)\n"
        "from openvino.tools.ovc import convert_impl, telemetry_utils\n"
        "print(convert_impl.tm.__name__, telemetry_utils.tm.__name__)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == 2 * ["openvino.tools.ovc.telemetry_stub"]


def test_an_unknown_engine_is_refused_with_the_nearest_name():
    with pytest.raises(ValueError, match="did you mean 'openvino'"):
        InferenceSpec(engine="openvin")
    with pytest.raises(UnknownNameError, match="unknown engine"):
        choose.ENGINES.load("tensorrt")


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


def test_the_images_that_are_compared_are_from_all_over():
    from ensembler.members.engines import _spread

    assert _spread(1000, 5).tolist() == [0, 249, 499, 749, 999]
    assert _spread(3, 32).tolist() == [0, 1, 2]
    assert _spread(0, 32).tolist() == []
