"""Whether a recipe's content is one: checked by its specs, every problem with its line."""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Sequence
from itertools import chain
from typing import Any

from pydantic import BaseModel, ValidationError

from ensembler.errors import RecipeError, RequestError, nearest
from ensembler.files import check_name
from ensembler.recipe.document import Document, Place
from ensembler.recipe.spec import RecipeSpec
from ensembler.training.spec import MEMBER_SPECS, spec_of

_EXPECTED = {
    "dict_type": "expected a mapping, such as {key: value}",
    "model_type": "expected a mapping, such as {key: value}",
    "model_attributes_type": "expected a mapping, such as {key: value}",
    "list_type": "expected a list, such as [a, b]",
    "tuple_type": "expected a list, such as [a, b]",
    "string_type": "expected text (numbers and yes, no, null in quotes)",
    "int_parsing_size": "expected a whole number of fewer digits",
}


def validate(
    content: dict[str, Any], document: Document, found: Sequence[str] = ()
) -> RecipeSpec:
    """The checked recipe; RecipeError with all problems, those `found` before among them."""
    problems = [
        *found,
        *_name_problems(content, document),
        *_not_finite(content, document, ()),
    ]
    try:
        spec = RecipeSpec.model_validate(content)
    except ValidationError as error:
        for fault in _telling(error.errors(), content):
            problems.append(_explain(fault, content, document))
        raise RecipeError(list(dict.fromkeys(problems))) from error
    if problems:
        raise RecipeError(problems)
    return spec


def _name_problems(content: dict[str, Any], document: Document) -> list[str]:
    members = content.get("members")
    named: list[tuple[str, Any, Place]] = [("run", content.get("name"), ("name",))]
    named += [
        ("member", name, ("members", name))
        for name in (members if isinstance(members, dict) else ())
    ]
    problems = []
    for kind, name, place in named:
        try:
            check_name(kind, name if isinstance(name, str) else str(name))
        except RequestError as error:
            problems.append(f"{document.where(place)}: {error}")
    return problems


def _not_finite(value: Any, document: Document, place: Place) -> list[str]:
    """Numbers that are infinite or none at all, which no option takes."""
    if isinstance(value, float) and not math.isfinite(value):
        return [
            f"{document.where(place)}: {'.'.join(map(str, place))} is {value}; expected a finite "
            "number"
        ]
    inside = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    return list(
        chain.from_iterable(
            _not_finite(item, document, (*place, key)) for key, item in inside
        )
    )


def _telling(faults: Sequence[Any], content: Any) -> list[Any]:
    """The faults without those of a type that was not meant.

    Where the faults inside a mapping are known, it was not meant as text.
    """
    places = [_place_of(fault, content) for fault in faults]
    deeper = {place[:end] for place in places for end in range(len(place))}
    return [
        fault
        for fault, place in zip(faults, places, strict=True)
        if not (fault["type"].endswith("_type") and place in deeper)
    ]


def _place_of(fault: Any, content: Any) -> Place:
    place = _place_in(content, fault["loc"])
    return (*place, fault["loc"][-1]) if fault["type"] == "missing" else place


def _explain(fault: Any, content: Any, document: Document) -> str:
    place = _place_of(fault, content)
    dotted = ".".join(str(part) for part in place)
    where = document.where(place)
    if fault["type"] == "extra_forbidden":
        options = _options_at(place[:-1], content)
        return f"{where}: {dotted} is not an option; {nearest(str(place[-1]), options, most=40)}"
    if fault["type"] == "missing":
        return f"{where}: {dotted} is missing"
    if fault["type"] == "value_error":
        return (
            f"{where}: {dotted}: {fault['ctx']['error']}"
            if dotted
            else f"{where}: {fault['ctx']['error']}"
        )
    given = fault["input"]
    shown = f" is {given!r}" if not isinstance(given, (dict, list)) else ""
    message = _plain_words(fault)
    return f"{where}: {dotted}{shown}; {message[:1].lower()}{message[1:]}"


def _plain_words(fault: Any) -> str:
    """What was expected, without the words of Python and of the library that checks it."""
    kind, limits = fault["type"], fault.get("ctx", {})
    if kind in _EXPECTED:
        return _EXPECTED[kind]
    if kind == "too_short":
        return f"expected at least {limits['min_length']} of them"
    if kind == "too_long":
        return f"expected at most {limits['max_length']} of them"
    return str(fault["msg"]).replace("Input should be", "expected")


def _place_in(content: Any, loc: Sequence[str | int]) -> Place:
    # Where a value may have one of several types, pydantic adds the type's name to the place: leave
    # it out.
    place: list[str | int] = []
    value = content
    for i, part in enumerate(loc):
        if i == 2 and loc[0] == "members" and part in MEMBER_SPECS:
            continue
        inside_mapping = isinstance(value, dict) and part in value
        inside_list = (
            isinstance(value, list) and isinstance(part, int) and part < len(value)
        )
        if inside_mapping or inside_list:
            value = value[part]
        else:
            continue
        place.append(part)
    return tuple(place)


def _options_at(place: Place, content: Any) -> list[str]:
    model: type[BaseModel] | None = RecipeSpec
    for depth, part in enumerate(place):
        if model is None:
            return []
        if depth == 1 and place[0] == "members":
            model = spec_of(content["members"][part])
            continue
        if isinstance(part, str) and part in model.model_fields:
            model = _model_in(model.model_fields[part].annotation) or model
    options = [f.alias or name for name, f in (model.model_fields if model else {}).items()]
    return (
        [*options, "extends", "defaults", "portfolio"] if model is RecipeSpec else options
    )


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if typing.get_origin(annotation) in (
        typing.Union,
        types.UnionType,
        dict,
        tuple,
        list,
        typing.Annotated,
    ):
        found = (_model_in(argument) for argument in typing.get_args(annotation))
        return next((model for model in found if model), None)
    return None
