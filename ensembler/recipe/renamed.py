"""Options of members that had another name in earlier versions: read, with a note."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from ensembler.errors import RecipeError
from ensembler.recipe.document import Document, Place

# compile: off | on | auto was what step is now
_STEP = {"off": "eager", False: "eager", "on": "compile", True: "compile", "auto": "auto"}


def with_options_of_today(document: Document) -> Document:
    """A recipe whose members and defaults say `step` where they said `compile`.

    Raises RecipeError where both stand. What is no value of `compile` is left to be reported.
    """
    content, origins = dict(document.content), dict(document.origins)
    notes = list(document.notes)
    for place, options in _options(content):
        given = options.get("compile")
        if not isinstance(given, (str, bool)) or given not in _STEP:
            continue
        where = document.where((*place, "compile"))
        if "step" in options:
            raise RecipeError(
                [
                    f"{where}: compile is the former name of step, which is there; leave it out"
                ]
            )
        renamed = {key: value for key, value in options.items() if key != "compile"}
        _put(content, place, {**renamed, "step": _STEP[given]})
        origins[(*place, "step")] = where
        notes.append(f"{where}: compile: {_word(given)} is now step: {_STEP[given]}")
    return replace(document, content=content, origins=origins, notes=tuple(notes))


def _options(content: Mapping[str, Any]) -> Iterator[tuple[Place, dict[str, Any]]]:
    """The options of the defaults and of each member, and where they stand."""
    defaults, members = content.get("defaults"), content.get("members")
    if isinstance(defaults, dict):
        yield ("defaults",), defaults
    if isinstance(members, dict):
        for name, member in list(members.items()):
            if isinstance(member, dict):
                yield ("members", name), member


def _put(content: dict[str, Any], place: Place, options: dict[str, Any]) -> None:
    if place == ("defaults",):
        content["defaults"] = options
    else:
        content["members"] = {**content["members"], place[1]: options}


def _word(given: str | bool) -> str:
    if isinstance(given, str):
        return given
    return "on" if given else "off"
