"""Blurred images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ensembler.data.counters import Streams
from ensembler.data.on_device.stages import Drawn, Draws, PlacedNumbers

_AT_ONCE = 8  # images, for each takes as much memory as its filter has taps


@dataclass(frozen=True)
class Blur:
    """A Gaussian blur; `sigmas` in pixels, 0 = none.

    `radius` gives the pixels to either side that a filter takes in, by sigma; `widest` is the
    largest. Beyond its edges an image goes on as its mirror image, its last pixels seen `twice` or
    once.
    """

    sigmas: Draws
    widest: int
    radius: Callable[[Tensor], Tensor]
    twice: bool = True

    def draw(self, streams: Streams) -> Drawn:
        """A strength for each image."""
        sigmas = self.sigmas(streams)
        return Drawn(sigmas.astype(np.float32)[:, None], sigmas > 0)

    def apply(self, images: Tensor, drawn: PlacedNumbers) -> Tensor:
        """Every image blurred along both axes."""
        some = zip(
            torch.split(images, _AT_ONCE), torch.split(drawn.values, _AT_ONCE), strict=True
        )
        return torch.cat([self._blurred(part, sigmas) for part, sigmas in some])

    def _blurred(self, images: Tensor, sigmas: Tensor) -> Tensor:
        places = torch.arange(-self.widest, self.widest + 1, device=sigmas.device)
        weights = torch.exp(-0.5 * (places / sigmas) ** 2)
        weights = weights * (places.abs() <= self.radius(sigmas))
        taps = (weights / weights.sum(dim=1, keepdim=True))[:, None, None, None]
        for axis in (2, 3):
            beyond = self._mirrored(images.shape[axis], images.device)
            windows = images.index_select(axis, beyond).unfold(axis, taps.shape[-1], 1)
            images = (windows * taps).sum(dim=-1)
        return images

    def _mirrored(self, n: int, device: torch.device) -> Tensor:
        """The places of a line that goes on as its mirror image to either side."""
        twice = int(self.twice)
        period = max(1, 2 * n - 2 + 2 * twice)
        places = torch.arange(-self.widest, n + self.widest, device=device) % period
        return torch.minimum(places, period - twice - places)


def radius_of_opencv(sigma: Tensor) -> Tensor:
    """How far OpenCV's filters of uint8 images reach."""
    return torch.div(torch.round(sigma * 6 + 1).int() | 1, 2, rounding_mode="floor")
