"""Augmentation by torchvision's v2 transforms, image by image or where the network computes."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ensembler.data.augment_steps import back_to_input, construct, name_and_arguments
from ensembler.errors import RequestError, UnknownNameError

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class TorchvisionAugment:
    """A pipeline of torchvision's v2 transforms on uint8 images."""

    def __init__(self, steps: Sequence[Any], size: int, channels: int) -> None:
        from torchvision.transforms import v2

        self.size = size
        self.channels = channels
        self.pipeline = v2.Compose([_torchvision(step, size) for step in steps])

    def __call__(self, image: NDArray[np.uint8], seed: int) -> NDArray[np.uint8]:
        """Augment one image `[height, width, channels]`; the same seed gives the same image."""
        import torch

        pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)
        return back_to_input(
            self._draw(pixels, seed).permute(1, 2, 0).numpy(), self.size, self.channels
        )

    def _draw(self, pixels: Tensor, seed: int) -> Tensor:
        with _own_stream(pixels.device, seed):
            out: Tensor = self.pipeline(pixels)
        return out


@contextmanager
def _own_stream(device: torch.device, seed: int) -> Iterator[None]:
    """Seed torch's global generators, from which torchvision draws.

    Only those of the CPU and of `device` are seeded.
    """
    import torch

    # torch.manual_seed would seed all devices, and their dropout would depend on whether images are
    # augmented here.
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":
            torch.cuda.default_generators[device.index].manual_seed(seed)
        elif device.type == "mps":
            torch.mps.manual_seed(seed)
        yield


class DeviceAugment(TorchvisionAugment):
    """A pipeline of torchvision's v2 transforms that augments batches on their device.

    Each image is augmented as it would be alone.
    """

    def on_batch(self, pixels: Tensor, seeds: Sequence[int]) -> Tensor:
        """Augment uint8 images on their device, each with its own seed.

        They are `[n, channels, height, width]`.
        """
        import torch

        drawn = [self._draw(image, seed) for image, seed in zip(pixels, seeds, strict=True)]
        if any(
            image.shape != pixels.shape[1:] or image.dtype != torch.uint8 for image in drawn
        ):
            raise RequestError(
                "augment: with on: device transforms keep uint8 images of "
                f"{tuple(pixels.shape[1:])}; these give {drawn[0].dtype} of "
                f"{tuple(drawn[0].shape)}; leave on: device out"
            )
        return torch.stack(drawn).contiguous(memory_format=torch.channels_last)


def _torchvision(step: Any, size: int) -> Any:
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
        arguments.setdefault("size", (size, size))
    parameters = list(inspect.signature(transform).parameters)
    return construct(transform, name, arguments, parameters)
