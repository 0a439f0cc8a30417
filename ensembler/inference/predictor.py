"""What an engine makes of a network: a function from pixels to logits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ensembler.networks.devices import copies_early, pick_device
from ensembler.networks.memory import in_parts

BATCH = 64  # images read at once, the same for all members, so that they can share a pass
ON_DEVICE = 512  # images on a device at once; a predictor takes them in parts of its own

# Logits float32 [images, classes] of uint8 pixels [images, channels, height, width] on the device.
Predictor = Callable[[Tensor], NDArray[np.float32]]
Logits = TypeVar("Logits")


def logits_on_device(predictor: Predictor, images: Tensor) -> Tensor:
    """The logits of a predictor float32 `[images, classes]`, perhaps still being computed.

    A predictor whose logits can stay on its device has a method `on_device` besides; those of
    another one are waited for, and are on the host.
    """
    on_device: Callable[[Tensor], Tensor] | None = getattr(predictor, "on_device", None)
    if on_device is None:
        return torch.from_numpy(predictor(images))
    return on_device(images)


def in_batches(predictor: Predictor, most: int) -> InBatches:
    """The predictor given at most so many images at once, and fewer where memory is short."""
    return InBatches(predictor, most)


@dataclass(frozen=True)
class InBatches:
    """A predictor that is given at most `most` images at once."""

    predictor: Predictor
    most: int

    def __call__(self, images: Tensor) -> NDArray[np.float32]:
        """Logits `[images, classes]`."""
        return np.concatenate(self._parts(self.predictor, images))

    def on_device(self, images: Tensor) -> Tensor:
        """Logits `[images, classes]`, perhaps still being computed."""
        return torch.cat(self._parts(partial(logits_on_device, self.predictor), images))

    def _parts(self, predict: Callable[[Tensor], Logits], images: Tensor) -> list[Logits]:
        starts = range(0, len(images), self.most)
        parts = (in_parts(predict, images[at : at + self.most]) for at in starts)
        return list(chain.from_iterable(parts))


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
