"""A frozen network from pixels to features, which several heads share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ensembler.inference.engines import eager
from ensembler.inference.predictor import Predictor, as_images, in_batches
from ensembler.networks.build import Normalised


def feature_predictor(
    network: Normalised,
    shape: tuple[int, int, int, int],
    *,
    amp: str,
    device: str,
    most: int,
) -> Predictor:
    """A network without a head, from pixels to features `[images, features]`.

    It is given at most `most` images at once, of the last three of `shape`: height, width and
    channels.
    """
    sample = as_images(np.zeros(shape, np.uint8), device)
    return in_batches(eager.prepare(network, sample, amp, device), most)


@dataclass
class SharedFeatures:
    """A frozen network that several heads ask, one after the other, for the same images."""

    predictor: Predictor
    _images: Tensor | None = None
    _found: NDArray[np.float32] | None = None

    def __call__(self, images: Tensor) -> NDArray[np.float32]:
        """Features `[images, features]`, computed once for a batch."""
        if self._found is None or self._images is not images:
            self._found, self._images = self.predictor(images), images
        return self._found
