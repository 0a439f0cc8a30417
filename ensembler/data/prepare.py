"""Steps that prepare an image once, before it is scaled, cached and augmented."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensembler.errors import RequestError, UnknownNameError
from ensembler.own_code import digest_of, is_own, load_own

Step = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
Box = tuple[float, float, float, float]
_GRABCUT_SIDE = 160  # GrabCut works at this size; its mask is scaled back


def build_steps(specs: Sequence[str | Mapping[str, Any]]) -> list[Step]:
    """The steps of a recipe in order.

    A step is a name, `{name: argument}`, or `module:function` of the user's own. Raises
    UnknownNameError for a step that is not there, RequestError for an argument that does not fit.
    """
    return [_build(spec) for spec in specs]


def _build(spec: str | Mapping[str, Any]) -> Step:
    if isinstance(spec, Mapping) and len(spec) != 1:
        raise RequestError(
            f"prepare step {dict(spec)!r}: expected a name, or one name with its argument"
        )
    name, argument = (spec, None) if isinstance(spec, str) else next(iter(spec.items()))
    if is_own(name):
        return _own(name)
    if name not in STEPS:
        raise UnknownNameError("prepare step", name, [*STEPS, "module:function"])
    return STEPS[name](argument)


def contents_of_steps(specs: Sequence[str | Mapping[str, Any]]) -> dict[str, str]:
    """Digests of the files behind steps, which may change under the same name.

    These are the user's own modules and rembg's weights.
    """
    contents: dict[str, str] = {}
    for spec in specs:
        name, argument = (spec, None) if isinstance(spec, str) else next(iter(spec.items()))
        digest = digest_of(name) if is_own(name) else None
        if name == "rembg":
            from ensembler.data.background import weights_digest

            name, digest = _rembg_model(argument), weights_digest(_rembg_model(argument))
        if digest is not None:
            contents[name] = digest
    return contents


def prepare(image: NDArray[np.uint8], steps: Sequence[Step]) -> NDArray[np.uint8]:
    """The image after all steps, uint8 `[height, width, 3]` or `[height, width]`."""
    for step in steps:
        image = step(image)
    return image


def _own(place: str) -> Step:
    function = load_own(place, "prepare step")

    def step(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        out = np.asarray(function(image))
        if (
            out.dtype != np.uint8
            or out.ndim not in (2, 3)
            or (out.ndim == 3 and out.shape[2] != 3)
        ):
            raise RequestError(
                f"prepare step {place!r} returned {out.dtype} {list(out.shape)}, expected "
                "uint8 [height, width, 3] or [height, width]"
            )
        return out

    return step


def _centre_crop(argument: Any) -> Step:
    share = 0.8 if argument is None else argument
    if not isinstance(share, (int, float)) or not 0 < share <= 1:
        raise RequestError(
            f"center_crop: {share!r}; expected the share of the sides to keep, such as 0.8"
        )
    low, high = (1 - share) / 2, (1 + share) / 2
    return _crop((low, low, high, high))


def _crop(argument: Any) -> Step:
    left, top, right, bottom = _box(argument, "crop")

    def step(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        height, width = image.shape[:2]
        rows = slice(int(top * height), max(int(top * height) + 1, round(bottom * height)))
        columns = slice(int(left * width), max(int(left * width) + 1, round(right * width)))
        return image[rows, columns]

    return step


def _box(argument: Any, name: str) -> Box:
    good = isinstance(argument, (list, tuple)) and len(argument) == 4
    good = good and all(isinstance(v, (int, float)) and 0 <= v <= 1 for v in argument)
    if not good or argument[0] >= argument[2] or argument[1] >= argument[3]:
        raise RequestError(
            f"{name}: {argument!r}; expected [left, top, right, bottom] as shares of the sides, 0 "
            "to 1"
        )
    return tuple(float(v) for v in argument)  # type: ignore[return-value]


def _clahe(argument: Any) -> Step:
    limit = 2.0 if argument is None else argument
    if not isinstance(limit, (int, float)) or limit <= 0:
        raise RequestError(f"clahe: {limit!r}; expected a clip limit above 0, such as 2")

    def step(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        import cv2

        equaliser = cv2.createCLAHE(clipLimit=float(limit), tileGridSize=(8, 8))
        if image.ndim == 2:
            return np.asarray(equaliser.apply(np.ascontiguousarray(image)), np.uint8)
        # The lightness alone: equalising each colour would change what colour things have.
        lab = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2LAB)
        lab[:, :, 0] = equaliser.apply(np.ascontiguousarray(lab[:, :, 0]))
        return np.asarray(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB), np.uint8)

    return step


def _grey(argument: Any) -> Step:
    if argument is not None:
        raise RequestError(f"grey takes no argument, given {argument!r}")

    def step(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        import cv2

        return (
            image
            if image.ndim == 2
            else np.asarray(cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY))
        )

    return step


def _grabcut(argument: Any) -> Step:
    box = (0.1, 0.05, 0.9, 0.95) if argument is None else _box(argument, "grabcut")

    def step(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return without_background(image, box)

    return step


def without_background(image: NDArray[np.uint8], box: Box) -> NDArray[np.uint8]:
    """The image with everything grey that GrabCut (Rother et al., 2004) takes for background.

    What lies outside of `box` (left, top, right, bottom as shares) is background to begin with.
    Where the search finds no foreground the image stays as it is.
    """
    import cv2

    colour = image if image.ndim == 3 else np.repeat(image[:, :, None], 3, axis=2)
    height, width = colour.shape[:2]
    factor = min(1.0, _GRABCUT_SIDE / max(height, width))
    size = (max(8, round(width * factor)), max(8, round(height * factor)))
    small = cv2.resize(np.ascontiguousarray(colour), size, interpolation=cv2.INTER_AREA)
    left, top, right, bottom = (round(v * s) for v, s in zip(box, size * 2, strict=True))
    mask = np.zeros(small.shape[:2], np.uint8)
    background, foreground = np.zeros((1, 65)), np.zeros((1, 65))
    if right - left < 2 or bottom - top < 2 or small.std() < 1:
        return image
    cv2.setRNGSeed(0)  # GrabCut starts from random clusters: equal images give equal masks
    rectangle = (left, top, right - left, bottom - top)
    cv2.grabCut(small, mask, rectangle, background, foreground, 3, cv2.GC_INIT_WITH_RECT)
    kept = np.isin(mask, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8)
    if not 0.02 < kept.mean() < 0.98:
        return image
    kept = np.asarray(cv2.resize(kept, (width, height), interpolation=cv2.INTER_NEAREST))
    out = np.where(kept[:, :, None] > 0, colour, np.uint8(127))
    return out if image.ndim == 3 else np.ascontiguousarray(out[:, :, 0])


def _rembg(argument: Any) -> Step:
    from ensembler.data.background import rembg_step

    return rembg_step(_rembg_model(argument))


def _rembg_model(argument: Any) -> str:
    return "u2netp" if argument is None else str(argument)


STEPS: dict[str, Callable[[Any], Step]] = {
    "center_crop": _centre_crop,
    "crop": _crop,
    "clahe": _clahe,
    "grey": _grey,
    "grabcut": _grabcut,
    "rembg": _rembg,
}
