"""torch.compile: compiling takes tens of seconds for a network, so it pays for many images only."""

from __future__ import annotations

import logging

import torch
from torch import Tensor, nn

from ensembler.inference.engines.eager import as_predictor, simplify
from ensembler.inference.predict import Predictor
from ensembler.networks.devices import pick_device


def prepare(network: nn.Module, sample: Tensor, amp: str, device: str) -> Predictor:
    """The network, simplified as for the default engine, compiled for batches of any size."""
    # Compiling for a CPU, torch warns that there is no GPU.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    on_device = pick_device(device)
    simple, dtype = simplify(network, sample, amp, on_device)
    return as_predictor(torch.compile(simple, dynamic=True), dtype, on_device)
