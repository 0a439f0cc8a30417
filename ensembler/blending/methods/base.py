"""What the shipped blend methods share: the door, what an unfitted one says, and how an option is checked."""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, ClassVar, Literal

import numpy as np

from ensembler.blending.pool import Stack, Targets
from ensembler.blending.registry import check_shape, check_stack
from ensembler.errors import NotFittedError, RequestError, nearest

Capacity = Literal["none", "linear", "rich"]


class Blender:
    """Remembers for how many members it was fitted.

    Its repr names the options that differ from their defaults. `capacity` says how much a fit
    adapts to its rows: "none" learns nothing from labels, "linear" finds a weight for each member.
    Whatever says nothing counts as rich.
    """

    weights_: Any = None
    capacity: ClassVar[Capacity] = "rich"

    def __repr__(self) -> str:
        options = inspect.signature(type(self)).parameters.values()
        shown = [(o.name, getattr(self, o.name), o.default) for o in options]
        text = ", ".join(
            f"{name}={value!r}" for name, value, default in shown if value is not default
        )
        return f"{type(self).__name__}({text})"

    def _enter(self, stack: Stack, y: Targets, *, inputs: str = "probs") -> tuple[Stack, Targets]:
        """The checked stack and labels to fit on, after noting their members and classes."""
        return self._noted(check_stack(stack, np.asarray(y), inputs=inputs), y)

    def _enter_shape(self, stack: Stack, y: Targets) -> tuple[Stack, Targets]:
        """The same without reading the stack's values: the method checks them as it reads member after member."""
        return self._noted(check_shape(stack, np.asarray(y)), y)

    def _noted(self, stack: Stack, y: Targets) -> tuple[Stack, Targets]:
        self.n_members_, self.n_classes_ = stack.shape[0], stack.shape[2]
        return stack, np.asarray(y, np.int64)

    def _known(self, stack: Stack) -> Stack:
        """The stack to predict, whose members and classes must be those of the fit.

        Its values are not read.
        """
        if not hasattr(self, "n_members_"):
            raise NotFittedError(type(self).__name__)
        stack = check_shape(stack)
        members, _, classes = stack.shape
        if members != self.n_members_:
            raise RequestError(
                f"{members} members for a {type(self).__name__} that was fitted on "
                f"{self.n_members_}"
            )
        if classes != self.n_classes_:
            raise RequestError(
                f"{classes} classes for a {type(self).__name__} that was fitted on "
                f"{self.n_classes_}"
            )
        return stack


def check_whole(name: str, value: Any, *, least: int = 0) -> int:
    """Return the whole number, or raise RequestError."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise RequestError(f"{name} is {value!r}, expected a whole number from {least}")
    return int(value)


def check_number(name: str, value: Any, *, least: float = 0.0, above: float | None = None) -> float:
    """Return the finite number from `least` (or `above` one), or raise RequestError."""
    wanted = f"a number from {least:g}" if above is None else f"a number above {above:g}"
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
        raise RequestError(f"{name} is {value!r}, expected {wanted}")
    if value < least or (above is not None and value <= above):
        raise RequestError(f"{name} is {value!r}, expected {wanted}")
    return float(value)


def check_strength(name: str, value: Any) -> float | None:
    """Return the number of a penalty, None for "auto", or raise RequestError."""
    if isinstance(value, str) and value == "auto":
        return None
    try:
        return check_number(name, value)
    except RequestError as error:
        raise RequestError(f"{name} is {value!r}, expected auto or a number from 0") from error


def check_switch(name: str, value: Any) -> bool:
    """Return the truth value, or raise RequestError."""
    if not isinstance(value, (bool, np.bool_)):
        raise RequestError(f"{name} is {value!r}, expected true or false")
    return bool(value)


def check_choice(name: str, value: Any, known: Sequence[str]) -> str:
    """Return the name if it is known, or raise RequestError with those that are."""
    if value not in known:
        raise RequestError(f"{name} is {value!r}; {nearest(str(value), known)}")
    return str(value)


def check_time_limit(value: Any) -> None:
    """Raise RequestError unless it is None or a number of seconds."""
    if value is not None:
        check_number("time_limit", value)
