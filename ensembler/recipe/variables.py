"""Environment variables in the texts of a recipe: `${NAME}` and `${NAME:-default}`."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from typing import Any

from ensembler.errors import RecipeError
from ensembler.recipe.document import Document, Place

_VARIABLE = re.compile(r"\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(:-(?P<default>[^}]*))?\}")


def expand(document: Document) -> Document:
    """The document with the values of its variables; RecipeError names those that are not set."""
    problems: list[str] = []

    def variable(match: re.Match[str], place: Place) -> str:
        found = _value(match)
        if found is None:
            problems.append(
                f"{document.where(place)}: environment variable {match['name']} is not set"
            )
        return found or ""

    def expanded(value: Any, place: Place) -> Any:
        if isinstance(value, dict):
            return {key: expanded(item, (*place, key)) for key, item in value.items()}
        if isinstance(value, list):
            return [expanded(item, (*place, i)) for i, item in enumerate(value)]
        if isinstance(value, str):
            return _VARIABLE.sub(lambda match: variable(match, place), value)
        return value

    content = expanded(document.content, ())
    if problems:
        raise RecipeError(problems)
    return replace(document, content=content)


def with_known(text: str) -> str:
    """A text with the values of the variables that are known; the others stay as they are."""
    return _VARIABLE.sub(lambda m: os.environ.get(m["name"], m["default"] or m[0]), text)


def _value(match: re.Match[str]) -> str | None:
    default: str | None = match["default"]
    return os.environ.get(match["name"]) or default
