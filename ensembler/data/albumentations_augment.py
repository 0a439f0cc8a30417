"""Augmentation by albumentations: lists of its transforms, or its own serialised form."""

from __future__ import annotations

import inspect
import os
import random
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensembler.data.augment_steps import back_to_input, construct, name_and_arguments
from ensembler.data.size import Size, sides
from ensembler.errors import RequestError, UnknownNameError

# albumentations asks the network for a newer version when it is imported; nothing here talks to the
# network.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")


class AlbumentationsAugment:
    """A pipeline of albumentations transforms."""

    def __init__(
        self, steps: Sequence[Any] | Mapping[str, Any], size: Size, channels: int
    ) -> None:
        import albumentations as A

        self.size = size
        self.channels = channels
        if isinstance(steps, Mapping):
            transform = _deserialised(steps)
            self.pipeline = (
                transform if isinstance(transform, A.Compose) else A.Compose([transform])
            )
        else:
            self.pipeline = A.Compose([build_transform(step, size) for step in steps])

    def __call__(self, image: NDArray[np.uint8], seed: int) -> NDArray[np.uint8]:
        """Augment one image `[height, width, channels]`; the same seed gives the same image."""
        # By set_random_seed every transform would draw the same numbers: all would happen together,
        # or none.
        self.pipeline.set_random_state(np.random.default_rng(seed), random.Random(seed))
        return self._apply(image)

    def as_view(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Transform every image in the same way, with the random numbers of older versions.

        Logits of views that were kept stay valid.
        """
        self.pipeline.set_random_seed(0)
        return self._apply(image)

    def _apply(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        out = self.pipeline(image=np.ascontiguousarray(image))["image"]
        return back_to_input(out, self.size, self.channels)


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
    if not (
        isinstance(found, type) and issubclass(found, (A.BasicTransform, A.BaseCompose))
    ):
        known = [
            n
            for n in dir(A)
            if isinstance(getattr(A, n), type)
            and issubclass(getattr(A, n), A.BasicTransform)
        ]
        raise UnknownNameError("albumentations transform", name, known)
    return found


def build_transform(step: Any, size: Size) -> Any:
    """The transform of a step. Raises RequestError for a name or arguments that are not there."""
    name, arguments = name_and_arguments(step)
    transform = _transform_class(name)
    if isinstance(
        arguments, (list, tuple)
    ):  # OneOf, SomeOf, Sequential: a list of transforms
        return transform([build_transform(inner, size) for inner in arguments])
    arguments = {
        key: tuple(v) if isinstance(v, (list, tuple)) else v
        for key, v in dict(arguments).items()
    }
    if "transforms" in arguments:
        arguments["transforms"] = [
            build_transform(inner, size) for inner in arguments["transforms"]
        ]
    if name in ("RandomResizedCrop", "RandomSizedCrop"):
        arguments.setdefault("size", sides(size))
    return construct(transform, name, arguments, _albumentations_parameters(transform))


def _albumentations_parameters(transform: Any) -> list[str]:
    return [
        p for p in inspect.signature(transform).parameters if p not in ("args", "kwargs")
    ]
