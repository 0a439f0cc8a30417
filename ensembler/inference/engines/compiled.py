"""torch.compile: compiling takes tens of seconds for a network, so it pays for many images only."""

from __future__ import annotations

from torch import Tensor, nn

from ensembler.inference.engines.eager import as_predictor, simplify
from ensembler.inference.predictor import Predictor
from ensembler.networks.compiled import compile_network
from ensembler.networks.devices import pick_device


def prepare(network: nn.Module, sample: Tensor, amp: str, device: str) -> Predictor:
    """The network, simplified as for the default engine, compiled for batches of any size."""
    on_device = pick_device(device)
    simple, dtype = simplify(network, sample, amp, on_device)
    return as_predictor(compile_network(simple, dynamic=True), dtype, on_device)
