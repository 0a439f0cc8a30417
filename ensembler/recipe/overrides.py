"""Values of a recipe that a command line overrides: `--set key.of.value=YAML`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ensembler.errors import RecipeError, RequestError, nearest
from ensembler.recipe.document import MAX_DEPTH, Document, Place, merged, parse_value
from ensembler.recipe.renamed import with_options_of_today


def override(document: Document, overrides: Sequence[str]) -> Document:
    """The document with the values of `overrides`.

    A mapping adds its keys to those that are there; any other value takes the place of the old one.
    Raises RequestError for what is no override, RecipeError for a member that is misspelt.
    """
    origins, notes = dict(document.origins), list(document.notes)
    content = document.content
    for given in overrides:
        dotted, separator, text = given.partition("=")
        keys = dotted.split(".")
        if not separator or not all(keys):
            raise RequestError(
                f"--set {given!r}: expected key=value, for instance --set members.cnn.epochs=3"
            )
        if len(keys) > MAX_DEPTH:
            raise RequestError(f"--set {given[:80]!r}...: the key is nested too deeply")
        nested: Any = parse_value(text)
        for key in reversed(keys):
            nested = {key: nested}
        origin: dict[Place, str] = {tuple(keys): f"--set {given}"}
        set_here = with_options_of_today(Document(nested, document.path, origin))
        content = merged(content, set_here.content)
        origins |= set_here.origins
        notes += set_here.notes
    _check_members_set(document.content, content, overrides)
    return replace(document, content=content, origins=origins, notes=tuple(notes))


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
    for given in overrides:
        place, *option = given.partition("=")[0].split(".")
        name = option[0] if place == "members" and len(option) > 1 else None
        if name is None or name in known or not _is_option_alone(members.get(name)):
            continue
        problems.append(f"--set {given}: unknown member {name!r}; {nearest(name, known)}")
    if problems:
        raise RecipeError(problems)


def _is_option_alone(member: Any) -> bool:
    """Whether what was set makes no member by itself."""
    return isinstance(member, dict) and member.keys().isdisjoint(("backbone", "method"))
