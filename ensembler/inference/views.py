"""Views of test-time augmentation: deterministic transforms of a whole batch of uint8 pixels.

A view takes `[images, height, width, channels]` and gives the same shape. Names with a number take
any number: `shift_left_0.1` moves by a tenth of the width, `scale_0.9` shows nine tenths of the
size, `brightness_1.2` multiplies.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensembler.errors import RequestError, UnknownNameError
from ensembler.inference.spec import CustomView, ViewSpec

Batch = NDArray[np.uint8]  # [images, height, width, channels]

SHIFT = 0.06  # of height or width, when a shift's name has no number
CROP = 0.875  # of the side, in five_crop and ten_crop


@dataclass(frozen=True)
class View:
    """A view by name."""

    name: str
    transform: Callable[[Batch], Batch]

    def __call__(self, batch: Batch) -> Batch:
        """The batch as this view shows it, contiguous."""
        return np.ascontiguousarray(self.transform(batch))


def _identity(batch: Batch) -> Batch:
    return batch


def _rotated(quarters: int) -> Callable[[Batch], Batch]:
    return lambda batch: np.rot90(batch, quarters, axes=(1, 2))


# Functions of the batch alone. Quarter turns and transposes need square pixels, which prepared
# pixels are.
FIXED: dict[str, Callable[[Batch], Batch]] = {
    "identity": _identity,
    "hflip": lambda batch: batch[:, :, ::-1],
    "vflip": lambda batch: batch[:, ::-1],
    "transpose": lambda batch: batch.transpose(0, 2, 1, 3),
    "rot90": _rotated(1),
    "rot180": _rotated(2),
    "rot270": _rotated(3),
    "transverse": lambda batch: batch.transpose(0, 2, 1, 3)[:, ::-1, ::-1],
}
GROUPS: dict[str, tuple[str, ...]] = {
    "d4": ("identity", "hflip", "vflip", "rot180", "transpose", "rot90", "rot270", "transverse"),
    "five_crop": (
        "crop_top_left",
        "crop_top_right",
        "crop_bottom_left",
        "crop_bottom_right",
        "crop_center",
    ),
}
GROUPS["ten_crop"] = (*GROUPS["five_crop"], *(f"{name}_hflip" for name in GROUPS["five_crop"]))
WITH_NUMBER = ("shift_left", "shift_right", "shift_up", "shift_down", "scale", "brightness")

_NUMBERED = re.compile(r"^(?P<base>[a-z_]+?)_(?P<number>\d+(\.\d+)?)$")
_CROP = re.compile(
    r"^crop_(?P<place>top_left|top_right|bottom_left|bottom_right|center)(?P<flip>_hflip)?$"
)


def view_names() -> list[str]:
    """Names a recipe may use; those that end in a number stand with an example."""
    return [
        *FIXED,
        *GROUPS,
        *GROUPS["five_crop"],
        *WITH_NUMBER[:4],
        "scale_0.9",
        "brightness_1.1",
    ]


def expand_views(specs: Sequence[ViewSpec]) -> tuple[View, ...]:
    """The views of a recipe in order, groups such as `d4` spelt out, each view once.

    Raises UnknownNameError with the nearest names.
    """
    views: dict[str, View] = {}
    for spec in specs:
        if isinstance(spec, CustomView):
            made = [View(spec.name, _custom(spec))]
        else:
            made = [View(name, find_view(name)) for name in GROUPS.get(spec, (spec,))]
        for view in made:
            views.setdefault(view.name, view)
    if not views:
        raise RequestError("views names none; the plain image is the view called identity")
    return tuple(views.values())


def find_view(name: str) -> Callable[[Batch], Batch]:
    """The transform behind a view's name."""
    if name in FIXED:
        return FIXED[name]
    crop = _CROP.match(name)
    if crop is not None:
        return lambda batch: _crop(batch, crop["place"], flip=crop["flip"] is not None)
    numbered = _NUMBERED.match(name)
    base, number = (numbered["base"], float(numbered["number"])) if numbered else (name, SHIFT)
    if base.startswith("shift_") and base in WITH_NUMBER and 0 < number < 1:
        return lambda batch: _shift(batch, base.removeprefix("shift_"), number)
    if numbered and base == "scale" and 0.2 <= number <= 3:
        return lambda batch: _zoom(batch, number)
    if numbered and base == "brightness" and 0 < number <= 5:
        return lambda batch: np.clip(np.round(batch * np.float32(number)), 0, 255).astype(np.uint8)
    raise UnknownNameError("view", name, view_names())


def _shift(batch: Batch, direction: str, fraction: float) -> Batch:
    """Move the picture; the border repeats what it shows last."""
    axis = 2 if direction in ("left", "right") else 1
    size = batch.shape[axis]
    by = max(1, round(fraction * size))
    moved = np.arange(size) + (by if direction in ("left", "up") else -by)
    return np.take(batch, np.clip(moved, 0, size - 1), axis=axis)


def _zoom(batch: Batch, factor: float) -> Batch:
    """Show the picture at `factor` of its size: smaller with a repeated border, larger cut to the centre."""
    import cv2

    height, width = batch.shape[1:3]
    inner_height, inner_width = max(1, round(height * factor)), max(1, round(width * factor))
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    out = np.empty_like(batch)
    for i, image in enumerate(batch):
        scaled = cv2.resize(image, (inner_width, inner_height), interpolation=how).reshape(
            inner_height, inner_width, -1
        )
        out[i] = _centred(scaled, height, width)
    return out


def _centred(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    rows = np.clip(np.arange(height) + (image.shape[0] - height) // 2, 0, image.shape[0] - 1)
    columns = np.clip(np.arange(width) + (image.shape[1] - width) // 2, 0, image.shape[1] - 1)
    return image[rows][:, columns]


def _crop(batch: Batch, place: str, *, flip: bool) -> Batch:
    """Cut a corner or the centre and scale it back to the full size."""
    import cv2

    height, width = batch.shape[1:3]
    h, w = round(CROP * height), round(CROP * width)
    top = {"top": 0, "bottom": height - h}.get(place.partition("_")[0], (height - h) // 2)
    left = {"left": 0, "right": width - w}.get(place.rpartition("_")[2], (width - w) // 2)
    out = np.empty_like(batch)
    for i, image in enumerate(batch):
        cut = np.ascontiguousarray(image[top : top + h, left : left + w])
        out[i] = cv2.resize(cut, (width, height), interpolation=cv2.INTER_LINEAR).reshape(
            height, width, -1
        )
    return out[:, :, ::-1] if flip else out


def _custom(spec: CustomView) -> Callable[[Batch], Batch]:
    from ensembler.data.augment import AlbumentationsAugment

    name, arguments = next(iter(spec.transform.items()))

    def transform(batch: Batch) -> Batch:
        always: dict[str, Any] = {**arguments, "p": 1.0}
        pipeline = AlbumentationsAugment([{name: always}], batch.shape[1], batch.shape[3])
        return np.stack([pipeline.as_view(image) for image in batch])

    AlbumentationsAugment(
        [{name: {**arguments, "p": 1.0}}], 32, 3
    )  # a wrong name or argument is said now
    return transform
