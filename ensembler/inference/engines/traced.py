"""torch.jit with oneDNN's fusion: on x86 a convolution and what follows it are one step.

torch calls its jit deprecated and points to torch.compile, which takes some seconds for a network
where this takes a third of one, and is slower here. Where a later torch has no jit any more,
`ready` says so and float32 computes.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ensembler.errors import RequestError
from ensembler.inference.engines.eager import as_predictor, simplify
from ensembler.inference.predictor import BATCH, Predictor
from ensembler.networks.devices import pick_device

_RUNS = 3  # the first ones are profiled, then the graph is fused


def prepare(network: nn.Module, sample: Tensor, amp: str, device: str) -> Predictor:
    """The network traced, frozen and fused for whole batches, to which smaller ones are filled up.

    So whatever is computed first, all is computed in one way, and equal seeds give equal bits.
    """
    on_device = pick_device(device)
    if on_device.type != "cpu":
        raise RequestError(
            f"engine traced computes on the CPU, not on {device!r}; add --device cpu"
        )
    simple, dtype = simplify(network, sample, amp, on_device)
    if dtype is not None:  # it needs autocast, which a frozen graph does not have
        return as_predictor(simple, dtype, on_device)
    fused = as_predictor(fused_network(simple, _whole(sample)), None, on_device)

    def predict(images: Tensor) -> NDArray[np.float32]:
        parts = [images[start : start + BATCH] for start in range(0, len(images), BATCH)]
        return np.concatenate([fused(_whole(part))[: len(part)] for part in parts])

    return predict


def _whole(images: Tensor) -> Tensor:
    """A whole batch of at most so many images, the first of them again and again at its end."""
    if len(images) == BATCH:
        return images
    return images[torch.arange(BATCH) % len(images)].contiguous(
        memory_format=torch.channels_last
    )


def fused_network(network: nn.Module, batch: Tensor) -> torch.jit.ScriptModule:
    """The network as one traced and frozen graph for batches of the size of `batch`."""
    jit: Any = torch.jit  # it has no types
    before = jit.onednn_fusion_enabled()
    with warnings.catch_warnings(), torch.no_grad():
        # of the deprecation, and of the tracer about shapes that are constant here
        warnings.simplefilter("ignore")
        jit.enable_onednn_fusion(True)
        try:
            traced: torch.jit.ScriptModule = jit.freeze(
                jit.trace(network.eval(), batch, check_trace=False)
            )
            for _ in range(_RUNS):
                traced(batch)
        finally:
            jit.enable_onednn_fusion(before)
    return traced
