"""Steps of an augmentation as recipes write them: a name with its arguments, built and checked.

And what comes out.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensembler.data.images import fit_to_input
from ensembler.data.size import Size, sides
from ensembler.errors import RequestError, UnknownNameError

Augment = Callable[[NDArray[np.uint8], int], NDArray[np.uint8]]


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


def construct(
    transform: Any, name: str, arguments: dict[str, Any], parameters: Sequence[str]
) -> Any:
    """Build a transform; raise RequestError for arguments that it does not take."""
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


def back_to_input(image: NDArray[Any], size: Size, channels: int) -> NDArray[np.uint8]:
    """What a transform gives as an image of the input's size.

    RequestError for what is not an image.
    """
    if image.dtype != np.uint8:
        raise RequestError(
            f"the augmentation returns {image.dtype}; leave Normalize and ToFloat out, it is done "
            "later"
        )
    if image.shape == (*sides(size), channels):
        return image
    return fit_to_input(
        image
        if image.ndim == 3 and image.shape[2] == 3
        else image.reshape(image.shape[:2]),
        size,
        channels,
        "stretch",
    )
