"""Holes in images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ensembler.data.counters import Streams
from ensembler.data.on_device.stages import Drawn, Draws, PlacedNumbers


@dataclass(frozen=True)
class Holes:
    """Rectangles of the image's mean colour, or of the value `fill`.

    `boxes` `[images, most, 4]` are top, left, bottom and right in pixels; all 0 = none.
    """

    boxes: Draws
    fill: float | None = None

    def draw(self, streams: Streams) -> Drawn:
        """Rectangles for each image."""
        boxes = self.boxes(streams)
        happens = np.any(boxes[:, :, 2] > boxes[:, :, 0], axis=1)
        return Drawn(boxes.reshape(len(boxes), -1).astype(np.float32), happens)

    def apply(self, images: Tensor, drawn: PlacedNumbers) -> Tensor:
        """Every image with its holes."""
        colour = images.mean(dim=(2, 3), keepdim=True).round_()
        if self.fill is not None:
            colour.fill_(self.fill)
        x = torch.arange(images.shape[3], device=images.device)
        y = torch.arange(images.shape[2], device=images.device)[:, None]
        for box in drawn.values.view(len(images), -1, 4).unbind(1):
            top, left, bottom, right = (side[:, None, None, None] for side in box.unbind(1))
            inside = (y >= top) & (y < bottom) & (x >= left) & (x < right)
            images = torch.where(inside, colour, images)
        return images
