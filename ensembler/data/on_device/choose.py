"""Where a member's images are augmented: on the device that computes, or on the host."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ensembler.data.augment import (
    POLICIES,
    build_augment,
    is_torchvision,
    preset_called,
    where_to_augment,
)
from ensembler.data.augment_steps import Augment
from ensembler.data.counters import Streams
from ensembler.data.on_device.albumentations_list import ALBUMENTATIONS
from ensembler.data.on_device.parts import NotOnDevice, Part, stages_of
from ensembler.data.on_device.preset import device_preset
from ensembler.data.on_device.stages import DeviceAugment
from ensembler.data.on_device.torchvision_list import TORCHVISION
from ensembler.data.presets import Preset
from ensembler.data.size import Size
from ensembler.data.spec import AugmentSpec

HOST, DEVICE = "host", "device"
_TRIED, _TRIED_SIDE = 16, 32  # images, and their side
# of their values: a place just between two pixels may be rounded either way
_MAY_DIFFER = 0.01


@dataclass(frozen=True)
class ChosenAugment:
    """An augmentation, where it happens, and what there is to say about that.

    `augment` is None when there is nothing to do.
    """

    augment: Augment | DeviceAugment | None
    on: str
    note: str = ""

    @property
    def where(self) -> str | None:
        """Where it happens; None when there is nothing to do."""
        return None if self.augment is None else self.on

    def identity(self, of_training: str) -> str:
        """What a training is called: a state from another place of augmentation is another's."""
        return f"{of_training} on device" if self.on == DEVICE else of_training


def choose_augment(
    spec: AugmentSpec,
    size: Size,
    channels: int,
    *,
    device: torch.device,
    kept: str | None = None,
) -> ChosenAugment:
    """Choose where to augment for a device.

    With `on: auto`, which is the default, what was `kept` of an earlier choice counts; otherwise
    a processor augments image by image and any other device by whole batches.
    """
    wanted = where_to_augment(spec)
    by_itself = HOST if device.type == "cpu" else DEVICE
    path = (kept or by_itself) if wanted.on == "auto" else wanted.on
    note = ""
    if path == DEVICE and not isinstance(size, int):
        note = "images that are not square are augmented on the host"
    elif path == DEVICE:
        assert isinstance(size, int)
        try:
            on_device = device_augment(spec, size, channels)
        except NotOnDevice as unknown:
            note = f"{unknown} is not known on a device: images are augmented on the host"
        else:
            fault = (
                None if on_device is None else fault_on(device, on_device, size, channels)
            )
            if fault is None:
                return ChosenAugment(on_device, DEVICE)
            note = f"{device} cannot augment ({fault}): images are augmented on the host"
    return ChosenAugment(build_augment(spec, size, channels), HOST, note)


def fault_on(
    device: torch.device, augment: DeviceAugment, size: int, channels: int
) -> str | None:
    """Why a device does not augment as a processor does; None when it does, or is one.

    A few images are augmented on both: not every device has every operation.
    """
    if device.type == "cpu":
        return None
    side = min(size, _TRIED_SIDE)  # what is wrong is wrong in small images, too
    images = torch.arange(_TRIED * channels * side * side).view(
        _TRIED, channels, side, side
    )
    images = (images * 37 % 251).byte()
    drawn = augment.draw(Streams(np.arange(_TRIED, dtype=np.uint64)))
    expected = augment.apply(images, drawn).int()
    try:
        found = augment.apply(images.to(device), drawn).cpu().int()
    except (RuntimeError, NotImplementedError) as error:
        return (str(error).strip().splitlines() or [type(error).__name__])[0]
    share = float(((found - expected).abs() > 1).float().mean())
    return f"{share:.0%} of the pixels are wrong" if share > _MAY_DIFFER else None


def device_augment(spec: AugmentSpec, size: int, channels: int) -> DeviceAugment | None:
    """The augmentation for whole batches on a device; None when there is nothing to do.

    Raises NotOnDevice with the name of a transform that is not known there.
    """
    transforms = where_to_augment(spec).transforms
    if isinstance(transforms, str):
        if transforms in POLICIES:
            raise NotOnDevice(transforms)
        preset = preset_called(transforms)
        return None if preset == Preset() else device_preset(preset, size, channels)
    stages = stages_of(_listed_parts(transforms, size))
    return DeviceAugment(stages) if stages else None


def _listed_parts(
    transforms: Sequence[Any] | Mapping[str, Any], size: int
) -> Iterator[Part]:
    if isinstance(transforms, Mapping) and not is_torchvision(transforms):
        raise NotOnDevice("albumentations' serialised form")
    steps = [transforms] if isinstance(transforms, Mapping) else transforms
    for i, step in enumerate(steps):
        if is_torchvision(step):
            # numbers of its own, far from those of the list around it
            yield from TORCHVISION.parts_of(step["torchvision"], size, 1000 * (i + 1))
        else:
            yield from ALBUMENTATIONS.parts_of([step], size, i)
