"""Batches of pixels through views and networks."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ensembler.data.pixels import Pixels
from ensembler.inference.views import View
from ensembler.networks.devices import copies_early, pick_device
from ensembler.networks.memory import in_parts

BATCH = 64  # images read at once, the same for all members, so that they can share a pass

# Logits float32 [images, classes] of uint8 pixels [images, channels, height, width] on the device.
Predictor = Callable[[Tensor], NDArray[np.float32]]


def predict_logits(
    networks: Sequence[nn.Module | Predictor],
    pixels: Pixels,
    rows: NDArray[np.int64],
    views: Sequence[View],
    *,
    classes: int,
    device: str = "auto",
    batch_size: int = BATCH,
    amp: str = "auto",
    out: NDArray[np.float32] | None = None,
    on_batch: Callable[[int, int], None] | None = None,
) -> NDArray[np.float32]:
    """Logits float32 `[networks, views, rows, classes]` of the images at `rows`.

    Each batch is read once and each view of it made once; every network then sees it, as it is or as an engine has made
    it ready. `out` may be a memory-mapped array of that shape to fill. Values that are not finite are returned as they
    are: the caller judges them.
    """
    from ensembler.inference.engines import eager

    if out is None:
        out = np.empty((len(networks), len(views), len(rows), classes), np.float32)
    sample = as_images(pixels[rows[:2]], device)
    predictors = [
        eager.prepare(copy.deepcopy(network), sample, amp, device) if isinstance(network, nn.Module) else network
        for network in networks
    ]
    for start in range(0, len(rows), batch_size):
        batch = pixels[rows[start : start + batch_size]]
        for v, view in enumerate(views):
            for n, logits in enumerate(predict_batch(predictors, view(batch), device)):
                out[n, v, start : start + len(batch)] = logits
        if on_batch is not None:
            on_batch(min(start + batch_size, len(rows)), len(rows))
    return out


def in_batches(predictor: Predictor, most: int) -> Predictor:
    """The predictor given at most so many images at once, and fewer where memory does not suffice for them."""

    def predict(images: Tensor) -> NDArray[np.float32]:
        starts = range(0, len(images), most)
        parts = [part for start in starts for part in in_parts(predictor, images[start : start + most])]
        return np.concatenate(parts)

    return predict


def predict_batch(predictors: Sequence[Predictor], batch: NDArray[np.uint8], device: str) -> list[NDArray[np.float32]]:
    """The logits `[images, classes]` of each predictor for one view of a batch `[images, height, width, channels]`."""
    images = as_images(batch, device)
    return [predictor(images) for predictor in predictors]


def as_images(batch: NDArray[np.uint8], device: str) -> Tensor:
    """A batch `[images, height, width, channels]` as predictors take it, `[images, channels, height, width]`."""
    # [n, h, w, c] seen as [n, c, h, w] is channels-last already.
    images, on_device = torch.from_numpy(np.ascontiguousarray(batch)).permute(0, 3, 1, 2), pick_device(device)
    return images.to(on_device, non_blocking=copies_early(on_device))
