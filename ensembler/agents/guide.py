"""The guide for agents: one page, made from one text, the commands and the recipe's keys."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from importlib.resources import files
from typing import Literal

from ensembler.agents.tools import Tool
from ensembler.errors import UnknownNameError

Form = Literal["plain", "skill"]

_FORMS: tuple[Form, ...] = ("plain", "skill")


def check_form(name: str) -> Form:
    """Return `name` as a form of the guide, or raise UnknownNameError."""
    for form in _FORMS:
        if name == form:
            return form
    raise UnknownNameError("form", name, _FORMS)


def guide(
    tools: Sequence[Tool], keys: Sequence[tuple[str, str]], form: Form = "plain"
) -> str:
    """The guide as Markdown; as a skill with the head that tells when to use it.

    `keys` are the top-level keys of a recipe, each with what it says.
    """
    commands = [_item(f"`ens {tool.name}`", tool.about) for tool in tools]
    of_recipe = [_item(f"`{name}`", about) for name, about in keys]
    text = _read("guide.md").replace("{commands}", "\n".join(commands))
    text = text.replace("{keys}", "\n".join(of_recipe))
    return _read("skill_head.md") + text if form == "skill" else text


def _read(name: str) -> str:
    return (files("ensembler.agents") / name).read_text(encoding="utf-8")


def _item(name: str, about: str) -> str:
    return textwrap.fill(
        f"- {name}: {about}",
        118,
        subsequent_indent="  ",
        break_long_words=False,
        break_on_hyphens=False,
    )
