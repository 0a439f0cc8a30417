"""torch.compile in a training: the same weights through compiled code."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ensembler.networks.compiled import CompilerError, compile_network, compiler_faults


def compiled(network: nn.Module) -> nn.Module:
    """`network` compiled, sharing its weights.

    CompilerError at its first use where it cannot be compiled.
    """
    return _Compiled(network)


class _Compiled(nn.Module):
    """A compiled network that tells a fault of the compiler from one of the network."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self._call = compile_network(network)

    def forward(self, images: Tensor) -> Tensor:
        with compiler_faults():
            return self._call(images)


def works(network: nn.Module, loss: Callable[[nn.Module], Tensor]) -> bool:
    """Whether `network` can be compiled, forward and backward; a copy of it is tried."""
    try:
        with compiler_faults():
            torch.autograd.backward(loss(compiled(copy.deepcopy(network))))
    except CompilerError:
        return False
    return True
