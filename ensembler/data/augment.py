"""Augmentation: a picture and a seed give a picture, whatever process asks and in whatever order.

Every call gets a seed of its own, derived from the member's seed, fold, epoch, sample and how often
the sample was drawn before in the epoch. So random streams never depend on the number of workers,
and members of equal seeds see the same augmented images.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensembler.data.albumentations_augment import AlbumentationsAugment
from ensembler.data.augment_steps import Augment
from ensembler.data.preset_augment import PresetAugment
from ensembler.data.presets import PRESETS, Preset
from ensembler.data.size import Size
from ensembler.data.spec import AugmentSpec
from ensembler.data.torchvision_augment import TorchvisionAugment
from ensembler.errors import RequestError, UnknownNameError

POLICIES = {
    "autoaugment": "AutoAugment",
    "randaugment": "RandAugment",
    "trivialaugment": "TrivialAugmentWide",
    "augmix": "AugMix",
}

_WRITTEN_AS = ("preset", "transforms", "torchvision")
_PLACES = {"auto": "auto", "device": "device", "host": "host", "cpu": "host"}
# Raised when the same transforms begin to draw differently, so that members trained before are
# trained again. 2: every transform of an image draws its own numbers (before, all of
# albumentations' drew the same).
_VERSION = 2


def augment_version(spec: AugmentSpec) -> str | None:
    """A sign of what `spec` draws beyond its own words; None where these say it all."""
    spec = where_to_augment(spec).transforms
    if isinstance(spec, str):
        preset = PRESETS.get(spec, Preset())
        return None if preset == Preset() else f"{_VERSION}-{preset.digest}"
    if isinstance(spec, Mapping):
        return None if "torchvision" in spec else str(_VERSION)
    return str(_VERSION) if any(not is_torchvision(step) for step in spec) else None


@dataclass(frozen=True)
class WhereToAugment:
    """Transforms, and where they are wanted: auto, device or host."""

    transforms: AugmentSpec
    on: str = "auto"


def where_to_augment(spec: AugmentSpec) -> WhereToAugment:
    """Split `{preset|transforms|torchvision: ..., on: ...}`.

    `on: cpu` is the host. Raises RequestError for another key or place.
    """
    given = [key for key in _WRITTEN_AS if isinstance(spec, Mapping) and key in spec]
    if not isinstance(spec, Mapping) or not given:
        return WhereToAugment(spec)
    kind, where = given[0], spec.get("on", "auto")
    odd = sorted(set(spec) - {kind, "on"})
    if odd or where not in _PLACES:
        wrong = f"{odd[0]!r}" if odd else f"on: {where!r}"
        raise RequestError(
            f"augment: {wrong}; expected one of {', '.join(_WRITTEN_AS)}, and on: auto, device or "
            "host if you like"
        )
    value = spec[kind]
    if kind == "preset":
        if not isinstance(value, str):
            raise RequestError(f"preset: {value!r}: expected the name of a preset")
        return WhereToAugment(value, _PLACES[where])
    listed = _listed(kind, value)
    transforms = {kind: listed} if kind == "torchvision" else tuple(listed)
    return WhereToAugment(transforms, _PLACES[where])


def is_torchvision(step: Any) -> bool:
    """Whether a step of a list is a list of torchvision's transforms."""
    return isinstance(step, Mapping) and set(step) == {"torchvision"}


def _listed(kind: str, value: Any) -> list[Any]:
    if not isinstance(value, (list, tuple)):
        raise RequestError(f"{kind}: {value!r}: expected a list of transforms")
    return list(value)


def sample_seed(*parts: int | str) -> int:
    """A 32-bit seed from the parts (seed, fold, epoch, sample).

    Equal parts give equal seeds on any machine.
    """
    digest = hashlib.blake2b("|".join(map(str, parts)).encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big")


def check_augment(spec: AugmentSpec) -> None:
    """Raise RequestError when the augmentation names what is not there, or does not give images."""
    augment = build_augment(spec, size=32, channels=3)
    if augment is not None:
        augment(np.zeros((32, 32, 3), np.uint8), 0)


def build_augment(spec: AugmentSpec, size: Size, channels: int) -> Augment | None:
    """Build an augmentation on the host, of `[height, width, channels]` images one by one.

    None when there is nothing to do. `spec` is a preset's name, a list of albumentations transforms
    (`Name` or `{Name: {arguments}}`) with `{torchvision: [...]}` for torchvision's v2 transforms,
    albumentations' own serialised form, or one of these with the place where it is wanted.
    """
    spec = where_to_augment(spec).transforms
    if isinstance(spec, str):
        if spec in POLICIES:
            return TorchvisionAugment([{POLICIES[spec]: {}}], size, channels)
        preset = preset_called(spec)
        return None if preset == Preset() else PresetAugment(preset, size, channels)
    if isinstance(spec, Mapping):
        if "torchvision" in spec:
            return TorchvisionAugment(spec["torchvision"], size, channels)
        return AlbumentationsAugment(spec, size, channels)
    return _chain(list(spec), size, channels)


def preset_called(name: str) -> Preset:
    """The preset of a name. Raises UnknownNameError."""
    if name not in PRESETS:
        raise UnknownNameError("augmentation preset", name, [*PRESETS, *POLICIES])
    return PRESETS[name]


def _chain(steps: list[Any], size: Size, channels: int) -> Augment | None:
    stages: list[Augment] = []
    run: list[Any] = []
    for step in [*steps, None]:
        if step is not None and not is_torchvision(step):
            run.append(step)
            continue
        if run:
            stages.append(AlbumentationsAugment(run, size, channels))
            run = []
        if step is not None:
            stages.append(
                TorchvisionAugment(
                    _listed("torchvision", step["torchvision"]), size, channels
                )
            )
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
