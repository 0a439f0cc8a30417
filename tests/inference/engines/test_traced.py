import numpy as np
import pytest
import torch
from engine_trials import PIXELS, gap, get_ready, network

from ensembler.inference.engines import eager, traced
from ensembler.inference.engines.choose import TOLERANCE
from ensembler.inference.predictor import as_images


@pytest.mark.parametrize("amp", ["off", "bf16"])
def test_a_traced_network_computes_batches_of_any_size_in_one_way(amp, monkeypatch):
    monkeypatch.setattr(traced, "BATCH", 4)
    notes = []
    predictor, reference = (
        get_ready("traced", amp=amp, notes=notes),
        eager.plain(network(), "cpu"),
    )
    for n in (4, 3, 6):  # a whole batch, one that is filled up, one that is divided
        images = as_images(PIXELS[:n], "cpu")
        assert predictor(images).shape == (n, 5)
        assert np.array_equal(predictor(images), predictor(images))
        assert gap(predictor(images), reference(images)) < (
            1e-5 if amp == "off" else TOLERANCE
        )
    assert not torch.jit.onednn_fusion_enabled()
    assert notes == []


def test_a_fused_graph_that_computes_something_else_is_not_used(monkeypatch):
    monkeypatch.setattr(traced, "fused_network", lambda net, _: lambda images: -net(images))
    notes = []
    predictor = get_ready("traced", notes=notes)
    assert "plain float32 computes instead" in notes[0]
    images = as_images(PIXELS, "cpu")
    assert np.array_equal(predictor(images), eager.plain(network(), "cpu")(images))
