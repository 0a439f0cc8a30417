"""Noise that is drawn where it is added, by counting pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ensembler.data.counters import Streams, salt_of
from ensembler.data.on_device.stages import Drawn, Draws, PlacedNumbers

_ALL_BITS = 2**64


@dataclass(frozen=True)
class Noise:
    """Gaussian noise; `stds` from 0 to 255, 0 = none."""

    stds: Draws
    name: str = "noise"

    def draw(self, streams: Streams) -> Drawn:
        """A strength for each image."""
        stds = self.stds(streams)
        return Drawn(stds.astype(np.float32)[:, None], stds > 0)

    def apply(self, images: Tensor, drawn: PlacedNumbers) -> Tensor:
        """Every image with noise of its own."""
        keys = drawn.keys ^ _signed(salt_of(self.name))
        noise = _normal(keys, images[0].numel()).view(images.shape)
        return torch.addcmul(images, noise, drawn.values[:, :, None, None]).clamp_(0, 255)


def _normal(keys: Tensor, n: int) -> Tensor:
    """Normal numbers float32 `[keys, n]`, by counting (Box and Muller, 1958)."""
    places = torch.arange(n, device=keys.device, dtype=torch.int64)
    bits = _mixed(keys[:, None] + places * _signed(0x9E3779B97F4A7C15))
    first = ((bits >> 40) & 0xFFFFFF).float().add_(0.5).mul_(2.0**-24)
    second = (bits & 0xFFFFFF).float().mul_(2 * math.pi * 2.0**-24)
    return first.log_().mul_(-2).sqrt_().mul_(second.cos_())


def _mixed(numbers: Tensor) -> Tensor:
    """The mixing of `counters.mixed`, on a device."""
    out = (numbers ^ _shifted(numbers, 30)) * _signed(0xBF58476D1CE4E5B9)
    out = (out ^ _shifted(out, 27)) * _signed(0x94D049BB133111EB)
    return out ^ _shifted(out, 31)


def _shifted(numbers: Tensor, by: int) -> Tensor:
    """To the right, as if the numbers had no sign."""
    return (numbers >> by) & ((1 << (64 - by)) - 1)


def _signed(number: int) -> int:
    return number - _ALL_BITS if number >= _ALL_BITS // 2 else number
