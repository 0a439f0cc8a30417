"""Augmentation by torchvision's v2 transforms, image by image."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ensembler.data.augment_steps import back_to_input, construct, name_and_arguments
from ensembler.data.size import Size, sides
from ensembler.errors import UnknownNameError

if TYPE_CHECKING:
    from torch import Tensor


class TorchvisionAugment:
    """A pipeline of torchvision's v2 transforms on uint8 images."""

    def __init__(self, steps: Sequence[Any], size: Size, channels: int) -> None:
        from torchvision.transforms import v2

        self.size = size
        self.channels = channels
        self.pipeline = v2.Compose([build_transform(step, size) for step in steps])

    def __call__(self, image: NDArray[np.uint8], seed: int) -> NDArray[np.uint8]:
        """Augment one image `[height, width, channels]`; the same seed gives the same image."""
        import torch

        pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)
        return back_to_input(
            self._draw(pixels, seed).permute(1, 2, 0).numpy(), self.size, self.channels
        )

    def _draw(self, pixels: Tensor, seed: int) -> Tensor:
        import torch

        # torchvision draws from the global generator. torch.manual_seed would seed those of all
        # devices, and their dropout would depend on whether images are augmented here.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            out: Tensor = self.pipeline(pixels)
        return out


def build_transform(step: Any, size: Size) -> Any:
    """The transform of a step. Raises RequestError for a name or arguments that are not there."""
    from torchvision.transforms import v2

    name, arguments = name_and_arguments(step)
    transform = getattr(v2, name, None)
    if not (isinstance(transform, type) and issubclass(transform, v2.Transform)):
        known = [
            n
            for n in dir(v2)
            if isinstance(getattr(v2, n), type) and issubclass(getattr(v2, n), v2.Transform)
        ]
        raise UnknownNameError("torchvision transform", name, known)
    arguments = dict(arguments)
    if name == "RandomResizedCrop":
        arguments.setdefault("size", sides(size))
    parameters = list(inspect.signature(transform).parameters)
    return construct(transform, name, arguments, parameters)
