"""Logits on their way back from a device, which computes on meanwhile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Arrived:
    """Logits that are here, and whether all of them are finite, which the device has looked at."""

    logits: NDArray[np.float32]
    is_finite: bool


class Fetched(Protocol):
    """Logits that were asked for."""

    def wait(self) -> Arrived:
        """Wait until they are here."""
        ...


class Fetches(Protocol):
    """Brings logits back."""

    def start(self, logits: Tensor) -> Fetched:
        """Ask for logits; the device is not waited for."""
        ...


@dataclass(frozen=True)
class PlainFetches:
    """Of a device whose copies are waited for, a processor among them."""

    def start(self, logits: Tensor) -> Fetched:
        """Copy them at once."""
        is_finite = bool(torch.isfinite(logits).all())
        return _Here(Arrived(logits.cpu().numpy(), is_finite))


@dataclass(frozen=True)
class _Here:
    arrived: Arrived

    def wait(self) -> Arrived:
        return self.arrived


@dataclass(frozen=True)
class CudaFetches:
    """Of a CUDA device: copies go into pinned memory, of which torch keeps a pool."""

    device: torch.device

    def start(self, logits: Tensor) -> Fetched:
        """Begin to copy them, behind what computes them."""
        values = torch.empty(logits.shape, dtype=torch.float32, pin_memory=True)
        is_finite = torch.empty((), dtype=torch.bool, pin_memory=True)
        values.copy_(logits, non_blocking=True)
        is_finite.copy_(torch.isfinite(logits).all(), non_blocking=True)
        event = torch.cuda.current_stream(self.device).record_event()
        return _OnTheirWay(values, is_finite, event)


@dataclass(frozen=True)
class _OnTheirWay:
    values: Tensor
    is_finite: Tensor
    event: torch.cuda.Event

    def wait(self) -> Arrived:
        self.event.synchronize()
        return Arrived(self.values.numpy(), bool(self.is_finite))


def fetches_of(device: torch.device) -> Fetches:
    """What brings logits back from a device."""
    return CudaFetches(device) if device.type == "cuda" else PlainFetches()
