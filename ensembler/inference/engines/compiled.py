"""torch.compile: compiling takes tens of seconds for a network, so it pays for many images only."""

from __future__ import annotations

import logging

import torch
from torch import Tensor, nn

from ensembler.inference.engines.eager import as_predictor
from ensembler.inference.predict import Predictor
from ensembler.networks.devices import autocast_type, pick_device


def prepare(network: nn.Module, sample: Tensor, amp: str, device: str) -> Predictor:  # noqa: ARG001
    """The network compiled, for batches of any size."""
    # Compiling for a CPU, torch warns that there is no GPU.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    on_device = pick_device(device)
    compiled = torch.compile(network.eval().to(on_device), dynamic=True)
    return as_predictor(compiled, autocast_type(amp, on_device), on_device)
