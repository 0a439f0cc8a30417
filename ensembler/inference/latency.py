"""How long a network takes for an image."""

from __future__ import annotations

import time

import numpy as np
import torch

from ensembler.data.size import Size, sides
from ensembler.inference.predictor import Predictor

BATCH = 16
_REPEATS = 3


def seconds_per_image(
    predictor: Predictor, size: Size, channels: int, device: torch.device
) -> float:
    """The seconds that a predictor takes for one image of a batch: the quickest of three times.

    The logits come to the host each time, so that a device is waited for.
    """
    drawn = np.random.default_rng(0).integers(0, 256, (BATCH, channels, *sides(size)))
    images = torch.from_numpy(drawn.astype(np.uint8)).to(device)
    predictor(images)
    taken = []
    for _ in range(_REPEATS):
        began = time.perf_counter()
        predictor(images)
        taken.append(time.perf_counter() - began)
    return min(taken) / BATCH
