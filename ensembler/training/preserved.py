"""Steps that leave no trace: whatever a step moves is put back where it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ensembler.training.randomness import own_randomness

if TYPE_CHECKING:
    from ensembler.training.learner import Learner

_BEGIN_WITH_ZEROS = (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD)


def begins_with_zeros(optimizer: torch.optim.Optimizer) -> bool:
    """Whether all that an optimizer keeps of a weight is zero before its first step."""
    return type(optimizer) in _BEGIN_WITH_ZEROS


@contextmanager
def preserved(learner: Learner) -> Iterator[None]:
    """Put back, in place, what the steps of the block move.

    These are weights, batch norms, averaged weights, the optimizer's moments, the scaler, the
    summed loss and the generators. A graph holds the addresses of tensors: none is replaced. What
    the optimizer has made in the block is set to zero: another one than `begins_with_zeros` says
    may not step in it.
    """
    copies = [(tensor, tensor.detach().clone()) for tensor in _moved(learner)]
    known = {id(tensor) for tensor, _ in copies}
    scaler = learner.scaler.state_dict()
    try:
        with own_randomness(learner.device):
            yield
    finally:
        with torch.no_grad():
            for tensor, copy in copies:
                tensor.copy_(copy)
            for tensor in optimizer_tensors(learner.optimizer):
                if id(tensor) not in known:
                    tensor.zero_()
        if scaler:
            learner.scaler.load_state_dict(scaler)
        learner.optimizer.zero_grad(set_to_none=True)


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> Iterator[Tensor]:
    """The tensors that an optimizer keeps of its weights."""
    for state in optimizer.state.values():
        for value in state.values():
            if isinstance(value, Tensor):
                yield value


def _moved(learner: Learner) -> Iterator[Tensor]:
    yield learner.total
    networks = [learner.network, learner.criterion]
    if learner.ema is not None:
        networks.append(learner.ema.module)
    for network in networks:
        yield from network.parameters()
        yield from network.buffers()
    yield from optimizer_tensors(learner.optimizer)
