"""Augmentation: a picture and a seed give a picture, whatever process asks and in whatever order.

Every call gets a seed of its own, derived from the member's seed, fold, epoch, sample and how often
the sample was drawn before in the epoch. So random streams never depend on the number of workers,
and members of equal seeds see the same augmented images.
"""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ensembler.data.presets import (
    AS_IT_IS,
    MIRRORED,
    PRESETS,
    ColourMatrix,
    Hole,
    Preset,
    Warp,
    draw,
)
from ensembler.data.spec import AugmentSpec
from ensembler.errors import RequestError, UnknownNameError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

# albumentations asks the network for a newer version when it is imported; nothing here talks to the
# network.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

Augment = Callable[[NDArray[np.uint8], int], NDArray[np.uint8]]

POLICIES = {
    "autoaugment": "AutoAugment",
    "randaugment": "RandAugment",
    "trivialaugment": "TrivialAugmentWide",
    "augmix": "AugMix",
}


# Raised when the same transforms begin to draw differently, so that members trained before are
# trained again. 2: every transform of an image draws its own numbers (before, all of
# albumentations' drew the same).
_VERSION = 2


def augment_version(spec: AugmentSpec) -> str | None:
    """A sign of what `spec` draws beyond its own words; None where these say it all."""
    if isinstance(spec, str):
        preset = PRESETS.get(spec, Preset())
        return None if preset == Preset() else f"{_VERSION}-{preset.digest}"
    if isinstance(spec, Mapping):
        return None if "torchvision" in spec else str(_VERSION)
    return str(_VERSION) if any(not _is_torchvision(step) for step in spec) else None


def _is_torchvision(step: Any) -> bool:
    return isinstance(step, Mapping) and set(step) == {"torchvision"}


def sample_seed(*parts: int | str) -> int:
    """A 32-bit seed from the parts (seed, fold, epoch, sample): equal parts give equal seeds anywhere."""
    digest = hashlib.blake2b("|".join(map(str, parts)).encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big")


def check_augment(spec: AugmentSpec) -> None:
    """Raise RequestError when the augmentation names what is not there, or does not give images."""
    augment = build_augment(spec, size=32, channels=3)
    if augment is not None:
        augment(np.zeros((32, 32, 3), np.uint8), 0)


def build_augment(spec: AugmentSpec, size: int, channels: int) -> Augment | None:
    """Build an augmentation of `[size, size, channels]` images; None when there is nothing to do.

    `spec` is a preset's name, a list of albumentations transforms (`Name` or `{Name: {arguments}}`)
    with `{torchvision: [...]}` for torchvision's v2 transforms, or albumentations' own serialised
    form. By `{torchvision: [...], on: device}` whole batches are augmented where the network
    computes.
    """
    if isinstance(spec, str):
        if spec in POLICIES:
            return TorchvisionAugment([{POLICIES[spec]: {}}], size, channels)
        if spec not in PRESETS:
            raise UnknownNameError("augmentation preset", spec, [*PRESETS, *POLICIES])
        return None if PRESETS[spec] == Preset() else PresetAugment(PRESETS[spec], size, channels)
    if isinstance(spec, Mapping):
        if "torchvision" in spec:
            return _on_device(spec, size, channels)
        return AlbumentationsAugment(spec, size, channels)
    return _chain(list(spec), size, channels)


def _on_device(spec: Mapping[str, Any], size: int, channels: int) -> Augment:
    where = spec.get("on", "cpu")
    odd = sorted(set(spec) - {"torchvision", "on"})
    if odd or where not in ("cpu", "device"):
        given = f"{odd[0]!r}" if odd else f"on: {where!r}"
        raise RequestError(
            f"augment: {given}; expected {{torchvision: [...]}}, with on: device or on: cpu if you "
            "like"
        )
    kind = DeviceAugment if where == "device" else TorchvisionAugment
    return kind(_listed(spec["torchvision"]), size, channels)


def _listed(value: Any) -> list[Any]:
    if not isinstance(value, (list, tuple)):
        raise RequestError(f"torchvision: {value!r}: expected a list of transforms")
    return list(value)


def _chain(steps: list[Any], size: int, channels: int) -> Augment | None:
    stages: list[Augment] = []
    run: list[Any] = []
    for step in [*steps, None]:
        if step is not None and not _is_torchvision(step):
            run.append(step)
            continue
        if run:
            stages.append(AlbumentationsAugment(run, size, channels))
            run = []
        if step is not None:
            stages.append(TorchvisionAugment(_listed(step["torchvision"]), size, channels))
    if len(stages) < 2:
        return stages[0] if stages else None
    return ChainedAugment(stages)


class ChainedAugment:
    """Several augmentations one after the other, each with a seed of its own."""

    def __init__(self, stages: Sequence[Augment]) -> None:
        self.stages = stages

    def __call__(self, image: NDArray[np.uint8], seed: int) -> NDArray[np.uint8]:
        """Apply all stages."""
        for i, stage in enumerate(self.stages):
            image = stage(image, sample_seed(seed, i))
        return image


class PresetAugment:
    """A preset: all of an image's geometry in one interpolation, all of its colours in one matrix."""

    def __init__(self, preset: Preset, size: int, channels: int) -> None:
        self.preset = replace(preset, hue=None) if channels == 1 else preset
        self.size = size

    def __call__(self, image: NDArray[np.uint8], seed: int) -> NDArray[np.uint8]:
        """Augment one image `[height, width, channels]`; the same seed gives the same image."""
        drawn = draw(self.preset, seed)
        image = _warped(image, drawn.warp)
        if drawn.colours is not None:
            image = _coloured(image, drawn.colours)
        if drawn.blur:
            image = _blurred(image, drawn.blur * self.size)
        if drawn.noise:
            image = _noisy(image, 255 * drawn.noise, seed)
        return _with_holes(image, drawn.holes) if drawn.holes else image


def _warped(image: NDArray[np.uint8], warp: Warp) -> NDArray[np.uint8]:
    import cv2

    if warp == AS_IT_IS:
        return image
    if warp == MIRRORED:
        return np.ascontiguousarray(image[:, ::-1])
    height, width = image.shape[:2]
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    # What a picture is warped out of goes on as its mirror image: no edges that were not there.
    out = cv2.warpAffine(
        image,
        _in_pixels(warp, height, width),
        (width, height),
        flags=flags,
        borderMode=cv2.BORDER_REFLECT,
    )
    return out.reshape(image.shape)  # OpenCV drops an axis of one channel


def _in_pixels(warp: Warp, height: int, width: int) -> NDArray[np.float64]:
    """The same map between pixel numbers, whose centres lie half a pixel inside the edges."""
    (a, b, c), (d, e, f) = warp
    x = [a, b * width / height, 0.5 * (width * (1 + c - a - b) + a + b * width / height - 1)]
    y = [d * height / width, e, 0.5 * (height * (1 + f - d - e) + d * height / width + e - 1)]
    return np.array([x, y])


def _coloured(image: NDArray[np.uint8], colours: ColourMatrix) -> NDArray[np.uint8]:
    import cv2

    matrix = np.array(colours)
    if image.shape[2] == 1:  # a grey image is a colour image whose channels are the same
        matrix = np.array([[matrix[0, :3].sum(), matrix[0, 3]]])
    return cv2.transform(image, matrix).reshape(image.shape)


def _blurred(image: NDArray[np.uint8], sigma: float) -> NDArray[np.uint8]:
    import cv2

    return cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_REFLECT).reshape(
        image.shape
    )


def _noisy(image: NDArray[np.uint8], std: float, seed: int) -> NDArray[np.uint8]:
    noise = np.random.default_rng(seed).standard_normal(image.shape, dtype=np.float32)
    return np.clip(np.rint(image + std * noise), 0, 255).astype(np.uint8)


def _with_holes(image: NDArray[np.uint8], holes: Sequence[Hole]) -> NDArray[np.uint8]:
    height, width, channels = image.shape
    colour = np.rint(image.reshape(-1, channels).mean(axis=0))
    out = image.copy()
    for hole in holes:
        top, left = round(hole.top * height), round(hole.left * width)
        bottom, right = (
            round((hole.top + hole.height) * height),
            round((hole.left + hole.width) * width),
        )
        out[top:bottom, left:right] = colour
    return out


class AlbumentationsAugment:
    """A pipeline of albumentations transforms."""

    def __init__(self, steps: Sequence[Any] | Mapping[str, Any], size: int, channels: int) -> None:
        import albumentations as A

        self.size = size
        self.channels = channels
        if isinstance(steps, Mapping):
            transform = _deserialised(steps)
            self.pipeline = (
                transform if isinstance(transform, A.Compose) else A.Compose([transform])
            )
        else:
            self.pipeline = A.Compose([_albumentations(step, size) for step in steps])

    def __call__(self, image: NDArray[np.uint8], seed: int) -> NDArray[np.uint8]:
        """Augment one image `[height, width, channels]`; the same seed gives the same image."""
        # By set_random_seed every transform would draw the same numbers: all would happen together,
        # or none.
        self.pipeline.set_random_state(np.random.default_rng(seed), random.Random(seed))
        return self._apply(image)

    def as_view(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Transform an image as all others, with the numbers of older versions: logits of views are kept."""
        self.pipeline.set_random_seed(0)
        return self._apply(image)

    def _apply(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        out = self.pipeline(image=np.ascontiguousarray(image))["image"]
        return _back_to_input(out, self.size, self.channels)


def _back_to_input(image: NDArray[Any], size: int, channels: int) -> NDArray[np.uint8]:
    from ensembler.data.images import fit_to_input

    if image.dtype != np.uint8:
        raise RequestError(
            f"the augmentation returns {image.dtype}; leave Normalize and ToFloat out, it is done "
            "later"
        )
    if image.shape == (size, size, channels):
        return image
    return fit_to_input(
        image if image.ndim == 3 and image.shape[2] == 3 else image.reshape(image.shape[:2]),
        size,
        channels,
        "stretch",
    )


def _deserialised(spec: Mapping[str, Any]) -> Any:
    import albumentations as A

    if "transform" not in spec:
        raise RequestError(
            "augment takes albumentations' serialised form (with the key transform), given "
            f"{sorted(spec)}"
        )
    _check_serialised(spec["transform"])
    try:
        return A.from_dict(dict(spec))
    except (KeyError, ValueError, TypeError) as error:
        raise RequestError(
            f"augment: albumentations cannot build this pipeline ({error})"
        ) from error


def _check_serialised(node: Any) -> None:
    # Names inside a file are looked up among albumentations' transforms and never imported.
    if isinstance(node, Mapping):
        name = node.get("__class_fullname__")
        if name is not None:
            _transform_class(str(name).rpartition(".")[2])
        for value in node.values():
            _check_serialised(value)
    elif isinstance(node, (list, tuple)):
        for value in node:
            _check_serialised(value)


def _transform_class(name: str) -> Any:
    import albumentations as A

    found = getattr(A, name, None)
    if not (isinstance(found, type) and issubclass(found, (A.BasicTransform, A.BaseCompose))):
        known = [
            n
            for n in dir(A)
            if isinstance(getattr(A, n), type) and issubclass(getattr(A, n), A.BasicTransform)
        ]
        raise UnknownNameError("albumentations transform", name, known)
    return found


def name_and_arguments(step: Any) -> tuple[str, Any]:
    """Split a step of a recipe, `Name` or `{Name: {arguments}}`, into name and arguments."""
    if isinstance(step, str):
        return step, {}
    if isinstance(step, Mapping) and len(step) == 1:
        name, arguments = next(iter(step.items()))
        return str(name), {} if arguments is None else arguments
    raise RequestError(
        f"transform {step!r}: expected a name, or one name with its arguments: {{Name: {{p: 0.5}}}}"
    )


def _albumentations(step: Any, size: int) -> Any:
    name, arguments = name_and_arguments(step)
    transform = _transform_class(name)
    if isinstance(arguments, (list, tuple)):  # OneOf, SomeOf, Sequential: a list of transforms
        return transform([_albumentations(inner, size) for inner in arguments])
    arguments = {
        key: tuple(v) if isinstance(v, (list, tuple)) else v for key, v in dict(arguments).items()
    }
    if "transforms" in arguments:
        arguments["transforms"] = [
            _albumentations(inner, size) for inner in arguments["transforms"]
        ]
    if name in ("RandomResizedCrop", "RandomSizedCrop"):
        arguments.setdefault("size", (size, size))
    return _construct(transform, name, arguments, _albumentations_parameters(transform))


def _albumentations_parameters(transform: Any) -> list[str]:
    import inspect

    return [p for p in inspect.signature(transform).parameters if p not in ("args", "kwargs")]


def _construct(
    transform: Any, name: str, arguments: dict[str, Any], parameters: Sequence[str]
) -> Any:
    import warnings

    unknown = [key for key in arguments if key not in parameters]
    if unknown:
        raise UnknownNameError("argument", unknown[0], parameters, of=name)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return transform(**arguments)
    except (ValueError, TypeError, UserWarning) as error:
        first = str(error).strip().splitlines()
        raise RequestError(
            f"{name}({arguments}): {' '.join(line.strip() for line in first[:3])}"
        ) from error


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
        return _back_to_input(
            self._draw(pixels, seed).permute(1, 2, 0).numpy(), self.size, self.channels
        )

    def _draw(self, pixels: Tensor, seed: int) -> Tensor:
        with _own_stream(pixels.device, seed):
            out: Tensor = self.pipeline(pixels)
        return out


@contextmanager
def _own_stream(device: torch.device, seed: int) -> Iterator[None]:
    """Seed torch's global generators, from which torchvision draws: those of the CPU and of `device`, no others."""
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
    """A pipeline of torchvision's v2 transforms that augments batches where they lie, as one image would be."""

    def on_batch(self, pixels: Tensor, seeds: Sequence[int]) -> Tensor:
        """Augment uint8 images `[n, channels, height, width]` on their device, each with its own seed."""
        import torch

        drawn = [self._draw(image, seed) for image, seed in zip(pixels, seeds, strict=True)]
        if any(image.shape != pixels.shape[1:] or image.dtype != torch.uint8 for image in drawn):
            raise RequestError(
                "augment: with on: device transforms keep uint8 images of "
                f"{tuple(pixels.shape[1:])}; these give "
                f"{drawn[0].dtype} of {tuple(drawn[0].shape)}; leave on: device out"
            )
        return torch.stack(drawn).contiguous(memory_format=torch.channels_last)


def _torchvision(step: Any, size: int) -> Any:
    import inspect

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
    return _construct(transform, name, arguments, parameters)
