"""Views of test-time augmentation: deterministic transforms of a whole batch of uint8 pixels.

A view takes `[images, height, width, channels]` and gives the same shape. Names with a number take
any number: `shift_left_0.1` moves by a tenth of the width, `scale_0.9` shows nine tenths of the
size, `brightness_1.2` multiplies.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensembler.data.size import Size, shown, size_of
from ensembler.errors import RequestError, UnknownNameError
from ensembler.inference.spec import CustomView, ViewSpec
from ensembler.own_code import digest_of, is_own, load_own
from ensembler.registry import Registry

Batch = NDArray[np.uint8]  # [images, height, width, channels]
Transform = Callable[[Batch], Batch]

SHIFT = 0.06  # of height or width, when a shift's name has no number
CROP = 0.875  # of the side, in five_crop and ten_crop
_DIGITS = 8  # of a digest behind the name of a view of the user's own


@dataclass(frozen=True)
class View:
    """A view by name; of those that are built in, the name says all there is to know."""

    name: str
    transform: Transform
    built_in: bool = False

    def __call__(self, batch: Batch) -> Batch:
        """The batch as this view shows it, contiguous."""
        return np.ascontiguousarray(self.transform(batch))


def _identity(batch: Batch) -> Batch:
    return batch


def _rotated(quarters: int) -> Transform:
    return lambda batch: np.rot90(batch, quarters, axes=(1, 2))


# Functions of the batch alone. Quarter turns and transposes need square pixels.
FIXED: dict[str, Transform] = {
    "identity": _identity,
    "hflip": lambda batch: batch[:, :, ::-1],
    "vflip": lambda batch: batch[:, ::-1],
    "transpose": lambda batch: batch.transpose(0, 2, 1, 3),
    "rot90": _rotated(1),
    "rot180": _rotated(2),
    "rot270": _rotated(3),
    "transverse": lambda batch: batch.transpose(0, 2, 1, 3)[:, ::-1, ::-1],
}
_SQUARE = ("transpose", "rot90", "rot270", "transverse")
GROUPS: dict[str, tuple[str, ...]] = {
    "d4": (
        "identity",
        "hflip",
        "vflip",
        "rot180",
        "transpose",
        "rot90",
        "rot270",
        "transverse",
    ),
    "five_crop": (
        "crop_top_left",
        "crop_top_right",
        "crop_bottom_left",
        "crop_bottom_right",
        "crop_center",
    ),
}
GROUPS["ten_crop"] = (
    *GROUPS["five_crop"],
    *(f"{name}_hflip" for name in GROUPS["five_crop"]),
)
_PLUGINS = Registry("view", "ensembler.views", {})
_NUMBERED = re.compile(r"^(?P<base>[a-z_]+?)_(?P<number>\d+(\.\d+)?)$")
_CROP = re.compile(
    r"^crop_(?P<place>top_left|top_right|bottom_left|bottom_right|center)(?P<flip>_hflip)?$"
)


@dataclass(frozen=True)
class NumberedView:
    """Views of one name and any number that `allows` lets through, such as `scale_0.9`.

    `example` is shown where names are listed. Without a number the name stands for `usual`, if
    there is such a number.
    """

    base: str
    example: str
    transform: Callable[[Batch, float], Batch]
    allows: Callable[[float], bool]
    usual: float | None = None

    def named(self, name: str) -> Transform | None:
        """The transform of a view's name; None when it is not one of these."""
        number = self.number_in(name)
        return None if number is None else partial(self._with, number)

    def number_in(self, name: str) -> float | None:
        """The number that a view's name has or stands for; None when it is not one of these."""
        found = _NUMBERED.match(name)
        base, number = (
            (found["base"], float(found["number"])) if found else (name, self.usual)
        )
        if base != self.base or number is None or not self.allows(number):
            return None
        return number

    def _with(self, number: float, batch: Batch) -> Batch:
        return self.transform(batch, number)


def view_names() -> list[str]:
    """Names a recipe may use; those that end in a number are shown by an example."""
    examples = [numbered.example for numbered in NUMBERED]
    return [*FIXED, *GROUPS, *GROUPS["five_crop"], *examples, *_PLUGINS.names]


def expand_views(specs: Sequence[ViewSpec]) -> tuple[View, ...]:
    """The views of a recipe in order, groups such as `d4` spelt out, each view once.

    Raises UnknownNameError with the nearest names.
    """
    views: dict[str, View] = {}
    for spec in specs:
        for view in _views_of(spec):
            views.setdefault(view.name, view)
    if not views:
        raise RequestError("views names none; the plain image is the view called identity")
    return tuple(views.values())


def check_views_fit(views: Sequence[View], size: Size) -> None:
    """Raise RequestError for a view that swaps the sides of images that are not square."""
    swapped = [view.name for view in views if view.built_in and view.name in _SQUARE]
    if swapped and not isinstance(size, int):
        raise RequestError(
            f"view {swapped[0]} swaps height and width, and images of {shown(size)} px are not "
            "square; hflip, vflip, rot180, shifts, scales and crops keep their sides"
        )


def _views_of(spec: ViewSpec) -> list[View]:
    if isinstance(spec, CustomView):
        return [View(spec.name, _custom(spec))]
    if is_own(spec):
        return [_own_view(spec)]
    names = GROUPS.get(spec, (spec,))
    return [View(name, find_view(name), built_in=_is_built_in(name)) for name in names]


def find_view(name: str) -> Transform:
    """The transform behind a view's name."""
    found = _built_in(name)
    if found is not None:
        return found
    if name in _PLUGINS:
        return _watched(name, _PLUGINS.load(name))
    raise UnknownNameError("view", name, view_names())


def _is_built_in(name: str) -> bool:
    return _built_in(name) is not None


def _built_in(name: str) -> Transform | None:
    if name in FIXED:
        return FIXED[name]
    crop = crop_named(name)
    if crop is not None:
        return partial(_crop, crop=crop)
    for numbered in NUMBERED:
        transform = numbered.named(name)
        if transform is not None:
            return transform
    return None


@dataclass(frozen=True)
class CropPlace:
    """A part of the picture by its place (`top_left`, `center`, ...), perhaps mirrored."""

    place: str
    flip: bool

    def window(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Where it lies in a picture of these sides: top, left, its height, its width."""
        h, w = round(CROP * height), round(CROP * width)
        vertical, horizontal = self.place.partition("_")[0], self.place.rpartition("_")[2]
        top = {"top": 0, "bottom": height - h}.get(vertical, (height - h) // 2)
        left = {"left": 0, "right": width - w}.get(horizontal, (width - w) // 2)
        return top, left, h, w


def crop_named(name: str) -> CropPlace | None:
    """The crop that a view's name stands for; None when it is none."""
    found = _CROP.match(name)
    return None if found is None else CropPlace(found["place"], found["flip"] is not None)


def place_of_own(name: str) -> str:
    """The `module:function` of a user's own view, whose name in the store ends in a digest."""
    return name.partition("@")[0]


def _own_view(name: str) -> View:
    """A view of the user's own, called after its place and what its file holds.

    A file that was edited is another view: its logits are computed anew. RequestError for a
    recorded name whose file has been edited since.
    """
    place, _, recorded = name.partition("@")
    transform = _watched(place, load_own(place, "view"))
    digest = (digest_of(place) or "")[:_DIGITS]
    if recorded and recorded != digest:
        raise RequestError(
            f"view {place!r} has changed: its predictions were made by another version of the file "
            f"({recorded}, now {digest}); `ens tta-predict RUN` makes them anew"
        )
    return View(f"{place}@{digest}" if digest else place, transform)


def _watched(name: str, transform: Transform) -> Transform:
    """The transform of somebody else, which is seen to give what it is given: shape and type."""
    if not callable(transform):
        raise RequestError(f"view {name!r} is not a function of a batch of images")

    def watched(batch: Batch) -> Batch:
        try:
            out = np.asarray(transform(batch))
        except Exception as error:
            raise RequestError(
                f"view {name!r} failed on images {list(batch.shape)}: "
                f"{type(error).__name__}: {error}"
            ) from error
        if out.shape != batch.shape or out.dtype != np.uint8:
            raise RequestError(
                f"view {name!r} returned {out.dtype} {list(out.shape)}; expected uint8 "
                f"{list(batch.shape)}, as it was given"
            )
        return out

    return watched


def _shift(batch: Batch, fraction: float, *, direction: str) -> Batch:
    """Move the picture; the border repeats what it shows last."""
    axis = shift_axis(direction)
    return np.take(batch, shifted_from(batch.shape[axis], fraction, direction), axis=axis)


def shift_axis(direction: str) -> int:
    """The axis of a batch along which a shift moves."""
    return 2 if direction in ("left", "right") else 1


def shifted_from(size: int, fraction: float, direction: str) -> NDArray[np.int64]:
    """The places that a shift shows, along an axis of so many."""
    by = max(1, round(fraction * size))
    moved = np.arange(size) + (by if direction in ("left", "up") else -by)
    return np.clip(moved, 0, size - 1)


def _zoom(batch: Batch, factor: float) -> Batch:
    """Show the picture at `factor` of its size, with a repeated border or cut to the centre."""
    import cv2

    height, width = batch.shape[1:3]
    inner_height, inner_width = scaled(height, factor), scaled(width, factor)
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    out = np.empty_like(batch)
    for i, image in enumerate(batch):
        resized = cv2.resize(image, (inner_width, inner_height), interpolation=how).reshape(
            inner_height, inner_width, -1
        )
        out[i] = _centred(resized, height, width)
    return out


def _centred(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    rows = centred_from(image.shape[0], height)
    columns = centred_from(image.shape[1], width)
    return image[rows][:, columns]


def scaled(side: int, factor: float) -> int:
    """A side at `factor` of its length, a pixel at least."""
    return max(1, round(side * factor))


def centred_from(inner: int, side: int) -> NDArray[np.int64]:
    """The places of a side of `inner` pixels that `side` show about its middle.

    Beyond its ends they show the last ones.
    """
    return np.clip(np.arange(side) + (inner - side) // 2, 0, inner - 1)


def _brighten(batch: Batch, factor: float) -> Batch:
    """Multiply the values."""
    return np.clip(np.round(batch * np.float32(factor)), 0, 255).astype(np.uint8)


def _crop(batch: Batch, crop: CropPlace) -> Batch:
    """Cut a corner or the centre and scale it back to the full size."""
    import cv2

    height, width = batch.shape[1:3]
    top, left, h, w = crop.window(height, width)
    out = np.empty_like(batch)
    for i, image in enumerate(batch):
        cut = np.ascontiguousarray(image[top : top + h, left : left + w])
        out[i] = cv2.resize(cut, (width, height), interpolation=cv2.INTER_LINEAR).reshape(
            height, width, -1
        )
    return out[:, :, ::-1] if crop.flip else out


def _custom(spec: CustomView) -> Transform:
    from ensembler.data.albumentations_augment import AlbumentationsAugment

    name, arguments = next(iter(spec.transform.items()))

    def transform(batch: Batch) -> Batch:
        always: dict[str, Any] = {**arguments, "p": 1.0}
        pipeline = AlbumentationsAugment(
            [{name: always}], size_of(*batch.shape[1:3]), batch.shape[3]
        )
        return np.stack([pipeline.as_view(image) for image in batch])

    # a wrong name or argument is said now
    AlbumentationsAugment([{name: {**arguments, "p": 1.0}}], 32, 3)
    return transform


def _is_share(number: float) -> bool:
    return 0 < number < 1


NUMBERED = (
    *(
        NumberedView(
            f"shift_{direction}",
            f"shift_{direction}",
            partial(_shift, direction=direction),
            _is_share,
            usual=SHIFT,
        )
        for direction in ("left", "right", "up", "down")
    ),
    NumberedView("scale", "scale_0.9", _zoom, lambda factor: 0.2 <= factor <= 3),
    NumberedView("brightness", "brightness_1.1", _brighten, lambda factor: 0 < factor <= 5),
)
