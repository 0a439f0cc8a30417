"""torch.compile for many networks in one process, and its faults told from those of networks."""

from __future__ import annotations

import contextlib
import hashlib
import logging
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from ensembler.errors import TrainingError

_COMPILERS = ("torch._dynamo", "torch._inductor", "torch._functorch", "triton")


class CompilerError(TrainingError):
    """torch cannot compile a network."""


def compile_network(network: nn.Module, **options: Any) -> Callable[[Tensor], Tensor]:
    """`network` compiled at its first use, sharing its weights.

    torch keeps what it compiled by function, at most eight forms of each, and then goes on without
    a word as if nothing were compiled: so each architecture is called through a function of its
    own.
    """
    # Compiling for a CPU, torch warns that there is no GPU.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    call = torch.compile(_caller(_architecture(network)), **options)

    def compiled(images: Tensor) -> Tensor:
        logits: Tensor = call(network, images)
        return logits

    return compiled


@cache
def _caller(architecture: str) -> Callable[[nn.Module, Tensor], Tensor]:
    def call(network: nn.Module, images: Tensor) -> Tensor:
        logits: Tensor = network(images)
        return logits

    call.__code__ = call.__code__.replace(co_name=f"call_{architecture}")
    return call


def _architecture(network: nn.Module) -> str:
    shapes = [
        (name, tuple(value.shape), value.dtype)
        for name, value in network.state_dict().items()
    ]
    return hashlib.sha256(f"{network}{shapes}".encode()).hexdigest()[:16]


@contextlib.contextmanager
def compiler_faults() -> Iterator[None]:
    """Turn a fault of the compiler, forward or backward, into a CompilerError."""
    try:
        yield
    except Exception as error:
        if not type(error).__module__.startswith(_COMPILERS):
            raise
        first = "".join(str(error).strip().splitlines()[:1])
        raise CompilerError(
            f"torch cannot compile the network here ({first}); step: eager"
        ) from error
