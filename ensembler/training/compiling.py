"""torch.compile where it pays: steps are timed both ways before the training, on copies.

Compiled and plain networks round differently, so the choice is made once and kept; whoever goes on
with the training takes it from there.
"""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ensembler.networks.compiled import CompilerError, compile_network, compiler_faults

_TIMED = 5
# Compiling takes tens of seconds; less training than this cannot pay it back, and nothing is
# measured.
MIN_SECONDS = 120.0
# What a step has to gain before it counts: two timings of the same step differ by a few percent.
_NOISE = 0.05
NOT_COMPILED = "not compiled: torch cannot compile the network here"


@dataclass(frozen=True)
class CompileChoice:
    """Whether a training is compiled, and why: seconds of a step, plain and compiled."""

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
            return NOT_COMPILED
        ratio = (
            f"a step takes {1000 * self.eager:.0f} ms, compiled {1000 * self.step:.0f} ms"
        )
        choice = "compiled" if self.compiled else "not compiled"
        return f"{choice}: {ratio}, compiling {self.compiling:.0f} s"


@dataclass(frozen=True)
class CompileDecision:
    """What was decided before (None = nothing yet), and what a new choice has to go through.

    `keep` keeps a choice and returns the one that counts: another process may have been faster.
    """

    chosen: bool | None = None
    keep: Callable[[CompileChoice], bool] = lambda choice: choice.compiled


def decide(
    decision: CompileDecision,
    network: nn.Module,
    loss: Callable[[nn.Module], Tensor],
    steps: int,
    device: torch.device,
) -> tuple[bool, str]:
    """Whether to compile with compile: auto, and what there is to say about it.

    What was decided before, perhaps on another machine, counts where the network can be compiled.
    """
    if decision.chosen:
        return (True, "") if works(network, loss) else (False, NOT_COMPILED)
    choice = choose(network, loss, steps, device)
    return decision.keep(choice), choice.text


def choose(
    network: nn.Module,
    loss: Callable[[nn.Module], Tensor],
    steps: int,
    device: torch.device,
) -> CompileChoice:
    """Time a forward and backward pass of a copy of `network`, plain and compiled.

    `loss` computes the loss of one whole batch by the network it is given; `steps` are still to be
    trained.
    """
    eager = _seconds_a_step(copy.deepcopy(network), loss, device)
    if eager * steps < MIN_SECONDS:
        return CompileChoice(False, eager)
    copied = compiled(copy.deepcopy(network))
    began = time.perf_counter()
    try:
        with compiler_faults():
            torch.autograd.backward(loss(copied))
        _wait(device)
    except CompilerError:
        return CompileChoice(False, eager, time.perf_counter() - began)
    compiling = time.perf_counter() - began
    step = _seconds_a_step(copied, loss, device)
    gain = (eager - step) * steps
    return CompileChoice(
        gain > compiling and step < eager * (1 - _NOISE), eager, compiling, step
    )


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


def _seconds_a_step(
    network: Any, loss: Callable[[nn.Module], Tensor], device: torch.device
) -> float:
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
