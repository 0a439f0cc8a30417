"""torch.compile where it pays: steps are timed both ways before the training, on copies that are thrown away.

Compiled and plain networks round differently, so the choice is made once and kept; whoever goes on with the training
takes it from there.
"""

from __future__ import annotations

import copy
import logging
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ensembler.errors import TrainingError

_TIMED = 5
# Compiling takes tens of seconds; less training than this cannot pay it back, and nothing is measured.
MIN_SECONDS = 120.0
# What a step has to gain before it counts: two timings of the same step differ by a few percent.
_NOISE = 0.05


@dataclass(frozen=True)
class CompileChoice:
    """Whether a training is compiled, and what that rests on: seconds a step, and seconds that compiling took."""

    compiled: bool
    eager: float
    compiling: float | None = None
    step: float | None = None

    def to_json(self) -> dict[str, Any]:
        """As `recipe.lock.json` keeps it."""
        return dict(self.__dict__)

    @property
    def text(self) -> str:
        """The choice in words."""
        if self.compiling is None:
            return "not compiled: the training is too short to pay for it"
        if self.step is None:
            return "not compiled: torch cannot compile the network here"
        ratio = f"a step takes {1000 * self.eager:.0f} ms, compiled {1000 * self.step:.0f} ms"
        return f"{'compiled' if self.compiled else 'not compiled'}: {ratio}, compiling {self.compiling:.0f} s"


def choose(network: nn.Module, loss: Callable[[nn.Module], Tensor], steps: int, device: torch.device) -> CompileChoice:
    """Time a forward and backward pass of a copy of `network`, plain and compiled.

    `loss` computes the loss of one whole batch by the network it is given; `steps` are still to be trained.
    """
    eager = _seconds_a_step(copy.deepcopy(network), loss, device)
    if eager * steps < MIN_SECONDS:
        return CompileChoice(False, eager)
    copied = compiled(copy.deepcopy(network))
    began = time.perf_counter()
    try:
        torch.autograd.backward(loss(copied))
        _wait(device)
    except TrainingError:
        return CompileChoice(False, eager, time.perf_counter() - began)
    compiling = time.perf_counter() - began
    step = _seconds_a_step(copied, loss, device)
    gain = (eager - step) * steps
    return CompileChoice(gain > compiling and step < eager * (1 - _NOISE), eager, compiling, step)


def compiled(network: nn.Module) -> nn.Module:
    """`network` compiled, sharing its weights; TrainingError at its first use where it cannot be compiled."""
    return _Compiled(network)


class _Compiled(nn.Module):
    """A compiled network that tells a fault of the compiler from one of the network."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        # Compiling for a CPU, torch warns that there is no GPU.
        logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
        self._call = torch.compile(network)

    def forward(self, images: Tensor) -> Tensor:
        try:
            logits: Tensor = self._call(images)
        except Exception as error:
            if not type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
                raise
            first = str(error).strip().splitlines()[:1]
            raise TrainingError(f"torch cannot compile the network here ({''.join(first)}); compile: off") from error
        return logits


def _seconds_a_step(network: Any, loss: Callable[[nn.Module], Tensor], device: torch.device) -> float:
    seconds = []
    for _ in range(2 + _TIMED):
        began = time.perf_counter()
        torch.autograd.backward(loss(network))
        _wait(device)
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds[2:])


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
