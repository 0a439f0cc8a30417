"""Networks recorded as graphs, by a recorder that does without CUDA; and on a device, where there is one."""

import numpy as np
import pytest
import torch
from recorded_graph import RecordingGraphs

from ensembler.errors import RequestError
from ensembler.inference.engines import choose, graph
from ensembler.inference.engines.eager import as_predictor, plain
from ensembler.inference.engines.graph import CaptureError, batch_size, recorded
from ensembler.inference.engines.registry import named_engine
from ensembler.inference.predictor import as_images, in_batches, logits_on_device
from ensembler.progress import RecordedProgress

CPU = torch.device("cpu")
PIXELS = np.random.default_rng(0).integers(0, 256, (21, 8, 8, 3), dtype=np.uint8)
IMAGES = as_images(PIXELS, "cpu")


class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.convolution, self.head = torch.nn.Conv2d(3, 4, 3), torch.nn.Linear(4, 5)

    def forward(self, images):
        return self.head(self.convolution(images.float() / 255).mean((2, 3)))


class Memory:
    def __init__(self, total, an_image):
        self.bytes, self.an_image = total, an_image

    def total(self):
        return self.bytes

    def peak_of(self, run):
        run()
        return self.an_image * graph._PROBED


def predictor():
    return as_predictor(Network().eval(), None, CPU)


def test_a_recorded_network_gives_its_logits_for_batches_of_any_size():
    graphs = RecordingGraphs()
    found = recorded(predictor(), IMAGES, 8, graphs)
    expected = predictor()(IMAGES)
    np.testing.assert_allclose(found(IMAGES), expected, atol=1e-6)
    (graphed,) = graphs.recorded
    assert graphed.replays == 3  # 8, 8 and 5 images
    # logits given before stay as they are when others are computed
    first = found.on_device(IMAGES[:3])
    found.on_device(IMAGES[3:6])
    np.testing.assert_allclose(first.numpy(), expected[:3], atol=1e-6)
    np.testing.assert_allclose(in_batches(found, graph.MOST)(IMAGES), expected, atol=1e-6)


def test_the_batch_is_what_memory_allows_and_equal_for_equal_cards():
    for total, an_image, expected in [
        (80 << 30, 6 << 20, 256),
        (80 << 30, 1 << 20, 512),
        (8 << 30, 6 << 20, 32),
        (1 << 30, 1 << 30, 16),
    ]:
        assert batch_size(predictor(), IMAGES, Memory(total, an_image)) == expected


def test_where_memory_is_short_smaller_batches_are_recorded():
    class Short(RecordingGraphs):
        tried = 0

        def capture(self, body):
            self.tried += 1
            if self.tried < 3:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().capture(body)

    assert recorded(predictor(), IMAGES, 64, Short()).batch == 16
    with pytest.raises(torch.OutOfMemoryError):
        recorded(predictor(), IMAGES, 16, RecordingGraphs(fault=torch.OutOfMemoryError()))


def test_a_network_that_cannot_be_recorded_is_computed_eagerly_and_named_once(monkeypatch):
    def refused(network, sample, amp, device):
        fault = RuntimeError("operation not permitted when stream is capturing\nmore")
        return recorded(
            as_predictor(network, None, CPU), sample, 8, RecordingGraphs(fault=fault)
        )

    monkeypatch.setattr(graph, "prepare", refused)
    with pytest.raises(CaptureError, match="permitted when stream is capturing\\)"):
        refused(Network(), IMAGES, "off", "cpu")
    progress = RecordedProgress()
    options = {"amp": "off", "device": "cpu", "name": "cnn fold 0", "progress": progress}
    found = choose.ready("graph", Network, PIXELS, **options)
    np.testing.assert_allclose(found(IMAGES), plain(Network(), "cpu")(IMAGES), atol=1e-5)
    (note,) = progress.notes
    assert note.startswith("cnn fold 0: no CUDA graph can be made of it")
    assert note.endswith("its operations are launched one by one")


def test_graphs_are_the_default_on_cuda_alone_and_refused_elsewhere():
    assert [named_engine("default", d) for d in ("cuda", "cpu", "mps")] == [
        "graph",
        "eager",
        "eager",
    ]
    with pytest.raises(RequestError, match="engine graph computes on CUDA devices"):
        graph.prepare(Network(), IMAGES, "off", "cpu")


def test_logits_of_any_predictor_are_had_as_a_tensor():
    expected = predictor()(IMAGES)
    for one in (predictor(), lambda _: expected, in_batches(lambda _: expected, 64)):
        assert np.array_equal(logits_on_device(one, IMAGES).numpy(), expected)


@pytest.mark.gpu
@pytest.mark.parametrize("amp", ["off", "fp16", "bf16"])
def test_on_a_card_a_graph_gives_what_eager_does(amp):
    from ensembler.inference.engines import eager
    from ensembler.networks.build import build_network
    from ensembler.networks.spec import NetworkSpec

    torch.manual_seed(0)
    network = build_network(
        NetworkSpec(backbone="resnet18"), classes=5, size=32, channels=3
    )
    pixels = np.random.default_rng(0).integers(0, 256, (70, 32, 32, 3), dtype=np.uint8)
    images = as_images(pixels, "cuda")
    found = graph.prepare(network.eval(), images[:16], amp, "cuda")
    expected = eager.prepare(network.eval(), images[:16], amp, "cuda")(images)
    apart = np.abs(found(images) - expected).max() / np.abs(expected).max()
    assert apart < (1e-5 if amp == "off" else 0.02)
