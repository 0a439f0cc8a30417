"""`defaults:`, the options that the members of a recipe share."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ensembler.errors import RecipeError, nearest
from ensembler.recipe.document import Document, Place
from ensembler.training.spec import (
    MEMBER_SPECS,
    any_has_option,
    has_option,
    is_effective,
    spec_of,
)


def share_defaults(document: Document) -> tuple[Document, list[str]]:
    """The document whose members have their share of its defaults, and what is wrong with those."""
    content = dict(document.content)
    defaults = content.pop("defaults", None)
    members = content.get("members")
    if defaults is None:
        return document, []
    if not isinstance(defaults, dict):
        raise RecipeError(
            [
                f"{document.where(('defaults',))}: defaults takes member options, "
                "such as epochs: 10"
            ]
        )
    unknown = [key for key in defaults if not any_has_option(key)]
    known = {key: value for key, value in defaults.items() if key not in unknown}
    origins = dict(document.origins)
    if isinstance(members, dict):
        content["members"] = {
            name: _with_defaults(name, m, known, origins) for name, m in members.items()
        }
    problems = [_is_no_option(key, document) for key in unknown]
    return replace(document, content=content, origins=origins), problems


def _is_no_option(key: str, document: Document) -> str:
    options = {
        field.alias or name: None
        for spec in MEMBER_SPECS.values()
        for name, field in spec.model_fields.items()
    }
    where = document.where(("defaults", key))
    return (
        f"{where}: defaults.{key} is not an option; {nearest(str(key), options, most=40)}"
    )


def _with_defaults(
    name: str, member: Any, defaults: dict[str, Any], origins: dict[Place, str]
) -> Any:
    if member is None:
        member = {}
    if not isinstance(member, dict):
        return member
    # A member takes of the defaults what its method knows and what is effective beside its others.
    both = {**defaults, **member}
    fitting = spec_of(both)
    shared = {
        key: value
        for key, value in defaults.items()
        if has_option(fitting, key) and is_effective(key, both)
    }
    for key in shared.keys() - member.keys():
        if ("defaults", key) in origins:
            origins[("members", name, key)] = origins[("defaults", key)]
    return {**shared, **member}
