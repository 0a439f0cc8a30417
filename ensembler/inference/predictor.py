"""What an engine makes of a network: a function from pixels to logits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ensembler.networks.devices import copies_early, pick_device
from ensembler.networks.memory import in_parts

BATCH = 64  # images read at once, the same for all members, so that they can share a pass

# Logits float32 [images, classes] of uint8 pixels [images, channels, height, width] on the device.
Predictor = Callable[[Tensor], NDArray[np.float32]]


def in_batches(predictor: Predictor, most: int) -> Predictor:
    """The predictor given at most so many images at once, and fewer where memory is short."""

    def predict(images: Tensor) -> NDArray[np.float32]:
        starts = range(0, len(images), most)
        parts = list(
            chain.from_iterable(
                in_parts(predictor, images[start : start + most]) for start in starts
            )
        )
        return np.concatenate(parts)

    return predict


def predict_batch(
    predictors: Sequence[Predictor], batch: NDArray[np.uint8], device: str
) -> list[NDArray[np.float32]]:
    """The logits `[images, classes]` of each predictor for one view of a batch, channels last."""
    images = as_images(batch, device)
    return [predictor(images) for predictor in predictors]


def as_images(batch: NDArray[np.uint8], device: str) -> Tensor:
    """A batch, channels last, as predictors take it: `[images, channels, height, width]`."""
    # [n, h, w, c] seen as [n, c, h, w] is channels-last already.
    images, on_device = (
        torch.from_numpy(np.ascontiguousarray(batch)).permute(0, 3, 1, 2),
        pick_device(device),
    )
    return images.to(on_device, non_blocking=copies_early(on_device))
