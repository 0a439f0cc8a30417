"""What the shipped blend methods share.

The checks of their input, the error of an unfitted method, and the checks of options.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np

from ensembler.blending.pool import Stack, Targets
from ensembler.blending.registry import Capacity, check_shape, check_stack
from ensembler.blending.state import State
from ensembler.errors import NotFittedError, RequestError, nearest


class Blender:
    """A blend method but for `fit` and `predict_proba`: what it says of itself, and how it is kept.

    The constructor stores its arguments under their names. `keeps` names the attributes that
    `fit` sets and `predict_proba` reads, beside `weights_` and the numbers of members and classes.
    """

    takes_votes: ClassVar[bool] = False
    needs_fit: ClassVar[bool] = True
    capacity: ClassVar[Capacity] = "rich"
    zero_weight_is_absent: ClassVar[bool] = False
    gives_probabilities: ClassVar[bool] = True
    searches_by: ClassVar[tuple[str, ...]] = ()
    keeps: ClassVar[tuple[str, ...]] = ()

    weights_: Any = None
    stopped_early_: bool = False
    converged_: bool = True

    @property
    def takes_parts(self) -> bool:
        """Whether walking over the stack member after member is enough."""
        return False

    def __repr__(self) -> str:
        defaults = inspect.signature(type(self)).parameters
        text = ", ".join(
            f"{name}={value!r}"
            for name, value in self.options().items()
            if value is not defaults[name].default
        )
        return f"{type(self).__name__}({text})"

    def options(self) -> dict[str, Any]:
        """What the constructor was given, by name."""
        return {
            name: getattr(self, name) for name in inspect.signature(type(self)).parameters
        }

    @classmethod
    def options_for_members(
        cls, options: Mapping[str, Any], kept: Sequence[int]
    ) -> dict[str, Any]:
        """The options for the members at the positions `kept`.

        They are the same, unless an option has a value for each member.
        """
        del kept
        return dict(options)

    def strengths(self) -> dict[str, Any]:
        """Options that the fit has found.

        A fit without one of the members need not search for them.
        """
        return {}

    def learned(self) -> dict[str, Any]:
        """What to show of the fit beside its weights, as plain values."""
        return {}

    def without(self, member: int) -> Self:
        """A method to fit on a pool that lacks the member; its strengths are those found here."""
        rest = [m for m in range(self.n_members_) if m != member]
        options = {**self.options(), **self.strengths()}
        return type(self)(**self.options_for_members(options, rest))

    def state(self) -> State:
        """What predictions need of the fit; NotKeptError where no file can hold that."""
        self._check_fitted()
        names = ("n_members_", "n_classes_", "weights_", *self.keeps)
        return State.of({name: getattr(self, name) for name in names})

    def restore(self, state: State) -> Self:
        """Make this method the fitted one whose `state()` it is; returns it."""
        for name, value in state.everything.items():
            setattr(self, name, value)
        return self

    def _check_fitted(self) -> None:
        if not hasattr(self, "n_members_"):
            raise NotFittedError(type(self).__name__)

    def _enter(
        self, stack: Stack, y: Targets, *, inputs: str = "probs"
    ) -> tuple[Stack, Targets]:
        """The checked stack and labels to fit on, after noting their members and classes."""
        return self._noted(check_stack(stack, np.asarray(y), inputs=inputs), y)

    def _enter_shape(self, stack: Stack, y: Targets) -> tuple[Stack, Targets]:
        """The same without reading the stack's values.

        The method checks them as it reads member after member.
        """
        return self._noted(check_shape(stack, np.asarray(y)), y)

    def _noted(self, stack: Stack, y: Targets) -> tuple[Stack, Targets]:
        self.n_members_, self.n_classes_ = stack.shape[0], stack.shape[2]
        return stack, np.asarray(y, np.int64)

    def _known(self, stack: Stack) -> Stack:
        """The stack to predict, whose members and classes must be those of the fit.

        Its values are not read.
        """
        self._check_fitted()
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


def check_number(
    name: str, value: Any, *, least: float = 0.0, above: float | None = None
) -> float:
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
        raise RequestError(
            f"{name} is {value!r}, expected auto or a number from 0"
        ) from error


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
