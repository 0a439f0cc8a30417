"""From a recipe file to checked, frozen specs.

Resolves extends, defaults, --set and variables, and reports all problems at once.
"""

from __future__ import annotations

import math
import os
import re
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from ensembler.data.spec import BUILT_IN_SOURCES
from ensembler.errors import RecipeError, RequestError, nearest
from ensembler.files import check_name
from ensembler.metrics.renamed import with_names_of_today
from ensembler.networks.sources import FOLDER, source_of_backbone
from ensembler.recipe.document import MAX_DEPTH, Document, Place, parse_value, read_document
from ensembler.recipe.spec import RecipeSpec
from ensembler.training.spec import (
    MEMBER_SPECS,
    any_has_option,
    has_option,
    is_effective,
    spec_of,
)

_VARIABLE = re.compile(r"\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(:-(?P<default>[^}]*))?\}")
_EXPECTED = {
    "dict_type": "expected a mapping, such as {key: value}",
    "model_type": "expected a mapping, such as {key: value}",
    "model_attributes_type": "expected a mapping, such as {key: value}",
    "list_type": "expected a list, such as [a, b]",
    "tuple_type": "expected a list, such as [a, b]",
    "string_type": "expected text (numbers and yes, no, null in quotes)",
    "int_parsing_size": "expected a whole number of fewer digits",
}
# Places that hold a path; * stands for any name. A path is relative to the file it stands in.
_PATH_PLACES = (
    ("data", "source"),
    ("data", "root"),
    ("data", "test"),
    ("defaults", "checkpoint"),
    ("members", "*", "checkpoint"),
    ("submission", "template"),
)
# Places of a name that may hold a path, behind this.
_BACKBONE_PLACES = (("defaults", "backbone"), ("members", "*", "backbone"))


@dataclass(frozen=True)
class Recipe:
    """A checked recipe and where it came from."""

    spec: RecipeSpec
    path: Path

    @classmethod
    def load(cls, path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
        """Read and check a recipe file.

        `overrides` are "key.of.value=YAML" as on the command line. Raises RecipeError with every
        problem found, each with its line and the nearest valid name.
        """
        path = Path(path)
        if path.is_dir() and (path / "recipe.yaml").is_file():
            path = path / "recipe.yaml"
        document = _override(_read_with_base(path, ()), overrides)
        document = _share_defaults(_expand(document))
        content = {
            "name": path.stem if path.name != "recipe.yaml" else path.resolve().parent.name,
            **document.content,
        }
        return cls(_validate(content, document), path)

    @classmethod
    def load_recorded(cls, path: Path) -> Recipe:
        """Read the resolved recipe that a run keeps; its names may have changed since."""
        document = read_document(path)
        content = dict(document.content)
        if isinstance(content.get("blend"), dict):
            content["blend"] = with_names_of_today(content["blend"])
        members = content.get("members")
        if isinstance(members, dict):
            content["members"] = {
                name: with_names_of_today(member) if isinstance(member, dict) else member
                for name, member in members.items()
            }
        return cls(_validate(content, document), path)

    @classmethod
    def check(
        cls, content: Mapping[str, Any], path: Path, origins: Mapping[Place, str]
    ) -> Recipe:
        """Check a recipe that a command put together.

        `origins` say what to name in an error about a place in it.
        """
        return cls(_validate(dict(content), Document(dict(content), path, origins)), path)


def _read_with_base(path: Path, seen: tuple[Path, ...]) -> Document:
    if path.resolve() in seen:
        raise RecipeError([f"{path.name}: extends comes back to itself"])
    document = _resolve_paths(read_document(path))
    parent = document.content.pop("extends", None)
    if parent is None:
        return document
    if not isinstance(parent, str):
        raise RecipeError(
            [f"{document.where(('extends',))}: extends takes the path of one recipe"]
        )
    base = _read_with_base(path.parent / parent, (*seen, path.resolve()))
    return Document(
        _merge(base.content, document.content), path, {**base.origins, **document.origins}
    )


def _merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def _override(document: Document, overrides: Sequence[str]) -> Document:
    origins = dict(document.origins)
    content = document.content
    for override in overrides:
        dotted, separator, text = override.partition("=")
        keys = dotted.split(".")
        if not separator or not all(keys):
            raise RequestError(
                f"--set {override!r}: expected key=value, for instance --set members.cnn.epochs=3"
            )
        if len(keys) > MAX_DEPTH:
            raise RequestError(f"--set {override[:80]!r}...: the key is nested too deeply")
        nested: Any = parse_value(text)
        for key in reversed(keys):
            nested = {key: nested}
        content = _merge(content, nested)
        origins[tuple(keys)] = f"--set {override}"
    _check_members_set(document.content, content, overrides)
    return Document(content, document.path, origins)


def _check_members_set(
    before: Mapping[str, Any], after: Mapping[str, Any], overrides: Sequence[str]
) -> None:
    """Raise RecipeError for an option of a member that neither the recipe nor another --set has.

    A member of its own is set whole, or with a backbone or method: the rest is a misspelt name.
    """
    known, members = before.get("members"), after.get("members")
    if not isinstance(known, dict) or not isinstance(members, dict):
        return
    problems = []
    for override in overrides:
        place, *option = override.partition("=")[0].split(".")
        name = option[0] if place == "members" and len(option) > 1 else None
        if name is None or name in known or not _is_option_alone(members.get(name)):
            continue
        problems.append(
            f"--set {override}: unknown member {name!r}; {nearest(name, known)}"
        )
    if problems:
        raise RecipeError(problems)


def _is_option_alone(member: Any) -> bool:
    """Whether what was set makes no member by itself."""
    return isinstance(member, dict) and member.keys().isdisjoint(("backbone", "method"))


def _expand(document: Document) -> Document:
    problems: list[str] = []

    def expand(value: Any, place: Place) -> Any:
        if isinstance(value, dict):
            return {key: expand(item, (*place, key)) for key, item in value.items()}
        if isinstance(value, list):
            return [expand(item, (*place, i)) for i, item in enumerate(value)]
        return (
            _VARIABLE.sub(lambda m: variable(m, place), value)
            if isinstance(value, str)
            else value
        )

    def variable(match: re.Match[str], place: Place) -> str:
        default: str | None = match["default"]
        found = os.environ.get(match["name"]) or default
        if found is None:
            problems.append(
                f"{document.where(place)}: environment variable {match['name']} is not set"
            )
        return found or ""

    content = expand(document.content, ())
    if problems:
        raise RecipeError(problems)
    return Document(content, document.path, document.origins)


def _resolve_paths(document: Document) -> Document:
    base = document.path.resolve().parent

    def resolve(value: Any, place: Place) -> Any:
        if isinstance(value, dict):
            return {key: resolve(item, (*place, key)) for key, item in value.items()}
        if isinstance(value, str) and any(
            _matches(place, pattern) for pattern in _BACKBONE_PLACES
        ):
            source, folder = source_of_backbone(value)
            return f"{FOLDER}:{absolute(folder)}" if source == FOLDER else value
        is_path = any(_matches(place, pattern) for pattern in _PATH_PLACES)
        if (
            not is_path
            or not isinstance(value, str)
            or (place == ("data", "source") and value in BUILT_IN_SOURCES)
        ):
            return value
        if not value.strip():
            raise RecipeError(
                [
                    f"{document.where(place)}: {'.'.join(map(str, place))} is empty, "
                    "expected a path"
                ]
            )
        return absolute(value)

    def absolute(path: str) -> str:
        # A variable may stand for an absolute path: expand it before judging.
        known = _VARIABLE.sub(
            lambda m: os.environ.get(m["name"], m["default"] or m[0]), path
        )
        return str(base / Path(known).expanduser())

    return Document(resolve(document.content, ()), document.path, document.origins)


def _matches(place: Place, pattern: tuple[str, ...]) -> bool:
    return len(place) == len(pattern) and all(
        p in ("*", k) for k, p in zip(place, pattern, strict=True)
    )


def _share_defaults(document: Document) -> Document:
    content = dict(document.content)
    defaults = content.pop("defaults", None)
    members = content.get("members")
    if defaults is None:
        return document
    if not isinstance(defaults, dict):
        raise RecipeError(
            [
                f"{document.where(('defaults',))}: defaults takes member options, "
                "such as epochs: 10"
            ]
        )
    origins = dict(document.origins)
    if isinstance(members, dict):
        content["members"] = {
            name: _with_defaults(name, m, defaults, origins) for name, m in members.items()
        }
    return Document(content, document.path, origins)


def _with_defaults(
    name: str, member: Any, defaults: dict[str, Any], origins: dict[Place, str]
) -> Any:
    if member is None:
        member = {}
    if not isinstance(member, dict):
        return member
    # A member takes of the defaults what its method knows and what is effective beside its others;
    # what no method knows is an error to be reported.
    fitting = spec_of({**defaults, **member})
    both = {**defaults, **member}
    shared = {
        k: v for k, v in defaults.items() if has_option(fitting, k) or not any_has_option(k)
    }
    shared = {k: v for k, v in shared.items() if is_effective(k, both)}
    for key in shared.keys() - member.keys():
        if ("defaults", key) in origins:
            origins[("members", name, key)] = origins[("defaults", key)]
    return {**shared, **member}


def _validate(content: dict[str, Any], document: Document) -> RecipeSpec:
    problems = [*_name_problems(content, document), *_not_finite(content, document, ())]
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
    return [*options, "extends", "defaults"] if model is RecipeSpec else options


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
