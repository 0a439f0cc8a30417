"""The search space of a recipe: which values a trial draws, one after the other, and what for."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ensembler.errors import RequestError
from ensembler.experiments.variants import Setting, own_option
from ensembler.files import fingerprint
from ensembler.recipe.spec import RecipeSpec
from ensembler.recipe.tune import DimensionSpec, TuneSpec, is_met, label_of

_OF_ALL = set(RecipeSpec.model_fields) - {"input", "augment", "data"}

Params = Mapping[str, Any]  # by key of the space: a number, or the label of a choice
Draw = Callable[[str, DimensionSpec], Any]


@dataclass(frozen=True)
class Space:
    """What varies of a member. `options` are the member's own, as they are where nothing varies."""

    tune: TuneSpec
    member: str
    options: Mapping[str, Any]

    def draw(self, draw: Draw) -> dict[str, Any]:
        """The values of one trial: of each key whose `when` is met, in an order that allows it."""
        params: dict[str, Any] = {}
        for key in self.tune.order:
            dimension = self.tune.space[key]
            if self._is_active(dimension, params):
                params[key] = draw(key, dimension)
        return params

    def holds(self, params: Params) -> bool:
        """Whether a trial of this space could have drawn these values."""
        missing = object()
        found = self.draw(lambda key, _: params.get(key, missing))
        if found.keys() != params.keys():
            return False
        return all(_is_in(self.tune.space[key], params[key]) for key in found)

    def _is_active(self, dimension: DimensionSpec, params: Params) -> bool:
        return all(
            self._is_met(key, wanted, params) for key, wanted in dimension.when.items()
        )

    def _is_met(self, key: str, wanted: Any, params: Params) -> bool:
        if key not in self.tune.space:
            return is_met(wanted, self.options.get(key))
        if key not in params:
            return False
        value = params[key]
        return is_met(wanted, value) or is_met(wanted, self.value_of(key, value))

    def value_of(self, key: str, value: Any) -> Any:
        """The value in the recipe that a trial's stands for: of a choice, what its label means."""
        dimension = self.tune.space[key]
        if dimension.choices is None or not isinstance(value, str):
            return value
        return dimension.by_label.get(value, value)

    def settings(self, params: Params) -> list[Setting]:
        """The values as options of a member; RequestError for a path that is none."""
        return [
            Setting(
                option_at(key, self.member),
                self.value_of(key, value),
                _text(value),
                f"tune.space.{key} = {_text(value)}",
            )
            for key, value in params.items()
        ]

    def corners(self) -> Iterator[dict[str, Any]]:
        """Trials to check before the first one is trained: each choice and each end of a range.

        Conditions are met where they can be; the other keys have their first values.
        """
        for key in self.tune.order:
            for value in ends_of(self.tune.space[key]):
                yield self._with({key: value})

    def _with(self, wanted: Mapping[str, Any]) -> dict[str, Any]:
        """A trial with these values, and with what their conditions ask for."""
        wanted = dict(wanted)
        for key in reversed(self.tune.order):
            if key not in wanted:
                continue
            for other, condition in self.tune.space[key].when.items():
                met = self._first_met(other, condition)
                if met is not None:
                    wanted.setdefault(other, met)

        def draw(key: str, dimension: DimensionSpec) -> Any:
            return wanted[key] if key in wanted else ends_of(dimension)[0]

        return self.draw(draw)

    def _first_met(self, key: str, condition: Any) -> Any:
        """A value of a key of the space that a condition asks for."""
        if key not in self.tune.space:
            return None
        found = (
            v
            for v in ends_of(self.tune.space[key])
            if self._is_met(key, condition, {key: v})
        )
        return next(found, None)

    @cached_property
    def never_drawn(self) -> tuple[str, ...]:
        """Keys whose `when` is never met, for the member's own options are others."""
        drawn = set[str]()
        for corner in self.corners():
            drawn |= corner.keys()
        return tuple(key for key in self.tune.order if key not in drawn)

    @cached_property
    def count(self) -> float:
        """How many different trials there are; infinite with a range that is continuous."""
        if any(_is_continuous(dimension) for dimension in self.tune.space.values()):
            return math.inf
        return float(self._count({}, 0))

    def _count(self, params: dict[str, Any], position: int) -> int:
        if position == len(self.tune.order):
            return 1
        key = self.tune.order[position]
        dimension = self.tune.space[key]
        if not self._is_active(dimension, params):
            return self._count(params, position + 1)
        rest = self.tune.order[position + 1 :]
        matters = any(key in self.tune.space[later].when for later in rest)
        values = values_of(dimension)
        if not matters:
            return len(values) * self._count({**params, key: values[0]}, position + 1)
        return sum(self._count({**params, key: value}, position + 1) for value in values)

    @property
    def digest(self) -> str:
        """What tells this space from others."""
        content = {
            key: dimension.model_dump(mode="json", by_alias=True)
            for key, dimension in sorted(self.tune.space.items())
        }
        return fingerprint(content)


def choice_value(value: Any) -> Any:
    """How a choice is kept in a study: a plain value as it is, any other by its label."""
    is_plain = value is None or isinstance(value, (str, int, float, bool))
    return value if is_plain else label_of(value)


def choices_of(dimension: DimensionSpec) -> list[Any]:
    """The choices as a trial draws them."""
    if isinstance(dimension.choices, dict):
        return list(dimension.choices)
    return [choice_value(value) for value in dimension.choices or ()]


def ends_of(dimension: DimensionSpec) -> list[Any]:
    """Every choice, or the lowest and highest number of a range."""
    if dimension.choices is not None:
        return choices_of(dimension)
    if dimension.step is None:
        return list(dimension.range)
    values = values_of(dimension)
    return [values[0], values[-1]]


def values_of(dimension: DimensionSpec) -> list[Any]:
    """All values of what is not continuous."""
    if dimension.choices is not None:
        return choices_of(dimension)
    low, high = dimension.range
    step = dimension.step or 1
    values = [low + i * step for i in range(int((high - low) / step + 1e-9) + 1)]
    return values if dimension.int_ is None else [int(value) for value in values]


def _is_continuous(dimension: DimensionSpec) -> bool:
    return dimension.float_ is not None and dimension.step is None


def _is_in(dimension: DimensionSpec, value: Any) -> bool:
    if dimension.choices is not None:
        return any(
            type(value) is type(one) and value == one for one in choices_of(dimension)
        )
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    low, high = dimension.range
    if not low <= value <= high:
        return False
    if _is_continuous(dimension):
        return True
    steps = (value - low) / (dimension.step or 1)
    return abs(steps - round(steps)) < 1e-9


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else label_of(value)


def option_at(key: str, member: str) -> str:
    """The member's option that a key of the space is, dotted where it lies in another."""
    head, _, rest = key.partition(".")
    if not rest:
        return key
    if head == "defaults":
        return rest
    if head == "members":
        name, _, option = rest.partition(".")
        if name != member or not option:
            raise RequestError(
                f"tune.space.{key}: trials vary {member!r} alone; tune.member says which member "
                "that is"
            )
        return option
    if head in _OF_ALL:
        raise RequestError(
            f"tune.space.{key}: {head} is what all members share; what varies is an option of the "
            "member, or what the recipe says of it: input.KEY, augment.KEY, "
            "data.targets.NAME.train_bins"
        )
    return own_option(key)
