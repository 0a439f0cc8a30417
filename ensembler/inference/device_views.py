"""The views of `inference.views` as tensor code, for a batch that is on the device already.

A device view takes uint8 `[images, height, width, channels]` and gives the same shape, and the
very values of the host's view: what is scaled up (the crops, `scale_1.2`) is computed in OpenCV's
whole numbers, all of which a float32 holds exactly. No matrices are multiplied, so no device
computes them in fewer bits.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache, partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ensembler.inference.views import (
    NUMBERED,
    CropPlace,
    View,
    centred_from,
    crop_named,
    scaled,
    shift_axis,
    shifted_from,
)
from ensembler.networks.devices import copies_early

DeviceView = Callable[[Tensor], Tensor]


def device_view(view: View) -> DeviceView | None:
    """The view as tensor code; None for one of the user's own, which the host makes."""
    if not view.built_in:
        return None
    if view.name in _FIXED:
        return _FIXED[view.name]
    crop = crop_named(view.name)
    if crop is not None:
        return partial(_crop, crop=crop)
    for numbered in NUMBERED:
        number = numbered.number_in(view.name)
        if number is not None and numbered.base in _NUMBERED:
            return partial(_NUMBERED[numbered.base], number=number)
    return None


def _identity(batch: Tensor) -> Tensor:
    return batch


def _transposed(batch: Tensor) -> Tensor:
    return batch.transpose(1, 2)


def _rotated(batch: Tensor, quarters: int) -> Tensor:
    return torch.rot90(batch, quarters, (1, 2))


def _shift(batch: Tensor, number: float, direction: str) -> Tensor:
    axis = shift_axis(direction)
    return _taken(batch, shifted_from(batch.shape[axis], number, direction), axis)


def _brighten(batch: Tensor, number: float) -> Tensor:
    return _as_pixels(batch.float() * float(np.float32(number)))


def _zoom(batch: Tensor, number: float) -> Tensor:
    """Show the pictures at `number` of their size, with a repeated border or cut to the centre."""
    sides = (batch.shape[1], batch.shape[2])
    inner = (scaled(sides[0], number), scaled(sides[1], number))
    found = _shrunk(batch, *inner) if number < 1 else _enlarged(batch, *inner)
    for axis, side in enumerate(sides, start=1):
        found = _taken(found, centred_from(found.shape[axis], side), axis)
    return found


def _crop(batch: Tensor, crop: CropPlace) -> Tensor:
    """Cut a corner or the centre and scale it back to the full size."""
    height, width = batch.shape[1], batch.shape[2]
    top, left, h, w = crop.window(height, width)
    found = _enlarged(batch[:, top : top + h, left : left + w], height, width)
    return found.flip(2) if crop.flip else found


def _taken(batch: Tensor, places: NDArray[np.int64], axis: int) -> Tensor:
    return batch.index_select(axis, _beside(batch, places))


def _beside(batch: Tensor, numbers: NDArray[np.int64] | NDArray[np.float32]) -> Tensor:
    """Numbers on the device of a batch, which is not waited for."""
    early = copies_early(batch.device)
    return torch.tensor(numbers).to(batch.device, non_blocking=early)


def _as_pixels(values: Tensor) -> Tensor:
    return values.round().clamp(0, 255).to(torch.uint8)


# Where each place of a resampled axis comes from, int64 `[places, taps]`, and with which weights.
Taps = tuple[NDArray[np.int64], NDArray[np.float32]]


def _resampled(values: Tensor, taps: Taps, axis: int) -> Tensor:
    """Weighted sums of neighbours along an axis; products of single numbers, never of matrices.

    So no device computes them in fewer bits, and an image does not depend on its batch.
    """
    places, weights = taps
    shape = [1] * values.ndim
    shape[axis] = len(places)
    total = torch.zeros((), device=values.device)
    for tap in range(places.shape[1]):
        weight = _beside(values, weights[:, tap]).view(shape)
        total = total + _taken(values, places[:, tap], axis) * weight
    return total


def _shrunk(batch: Tensor, height: int, width: int) -> Tensor:
    """Scale down by averaging areas."""
    before = (batch.shape[1], batch.shape[2])
    found = _resampled(batch.float(), _area_taps(before[1], width), 2)
    found = _resampled(found, _area_taps(before[0], height), 1)
    if before == (2 * height, 2 * width):
        # OpenCV has a way of its own for halves, which rounds upwards.
        return (found + 0.5).floor().to(torch.uint8)
    return _as_pixels(found)


_UNITS = 2048.0  # OpenCV's shares of two neighbours are whole numbers of these
_PART = 32.0  # a share is multiplied in two parts: its product has more bits than a float32


def _enlarged(batch: Tensor, height: int, width: int) -> Tensor:
    """Scale up between two neighbours along each axis, as OpenCV's INTER_LINEAR."""
    found = _resampled(batch.float(), _linear_taps(batch.shape[2], width), 2)
    found = (found / 16).floor()
    places, weights = _linear_taps(batch.shape[1], height, stops_at_border=False)
    total = torch.zeros((), device=batch.device)
    for tap in (0, 1):
        share = _beside(batch, weights[:, tap]).view(-1, 1, 1)
        total = total + _whole_product(_taken(found, places[:, tap], 1), share)
    return ((total + 2) / 4).floor().to(torch.uint8)


def _whole_product(values: Tensor, shares: Tensor) -> Tensor:
    """The whole part of `values * shares / 65536`."""
    large = (shares / _PART).floor()
    small = shares - _PART * large
    product = values * large + (values * small / _PART).floor()
    return (product / (65536 / _PART)).floor()


@lru_cache(maxsize=64)
def _linear_taps(before: int, after: int, *, stops_at_border: bool = True) -> Taps:
    """Of an axis that grows: the two nearest, with their shares in `_UNITS`.

    Beyond the border there is the border's pixel alone. Where OpenCV does not stop there it mixes
    that pixel with itself, which rounds otherwise.
    """
    at = ((np.arange(after) + 0.5) * (before / after) - 0.5).astype(np.float32)
    first = np.floor(at).astype(np.int64)
    share = at - np.floor(at)
    if stops_at_border:
        share[(first < 0) | (first >= before - 1)] = 0
    shares = np.stack([1 - share, share], axis=1) * np.float32(_UNITS)
    places = np.clip(np.stack([first, first + 1], axis=1), 0, before - 1)
    return places, np.rint(shares).astype(np.float32)


@lru_cache(maxsize=64)
def _area_taps(before: int, after: int) -> Taps:
    """Of an axis that shrinks: all that a place covers, as OpenCV's INTER_AREA."""
    step = before / after
    begin = np.arange(after) * step
    n_taps = math.ceil(step) + 1
    places = np.floor(begin).astype(np.int64)[:, None] + np.arange(n_taps)
    covered = np.minimum(places + 1, (begin + step)[:, None])
    covered = covered - np.maximum(places, begin[:, None])
    weights = np.clip(covered, 0, None) / step
    return np.minimum(places, before - 1), weights.astype(np.float32)


_FIXED: dict[str, DeviceView] = {
    "identity": _identity,
    "hflip": partial(torch.flip, dims=(2,)),
    "vflip": partial(torch.flip, dims=(1,)),
    "transpose": _transposed,
    "rot90": partial(_rotated, quarters=1),
    "rot180": partial(_rotated, quarters=2),
    "rot270": partial(_rotated, quarters=3),
    "transverse": lambda batch: batch.transpose(1, 2).flip((1, 2)),
}
_NUMBERED: dict[str, Callable[..., Tensor]] = {
    **{
        f"shift_{direction}": partial(_shift, direction=direction)
        for direction in ("left", "right", "up", "down")
    },
    "scale": _zoom,
    "brightness": _brighten,
}
