"""`ens guide`."""

from __future__ import annotations

from typing import Annotated

import typer

from ensembler.cli.options import Debug, Json, Quiet
from ensembler.cli.terminal import print_json
from ensembler.cli.tools import tools_of


def command(
    context: typer.Context,
    form: Annotated[
        str,
        typer.Option(
            "--form", help="plain (AGENTS.md), or skill (SKILL.md, with its head)."
        ),
    ] = "plain",
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Print one page for agents: commands, answers, recipe, and what never to do."""
    from ensembler.agents.guide import check_form, guide
    from ensembler.recipe.schema import top_level_keys

    tools = tools_of(context)
    text = guide(tools, top_level_keys(), check_form(form))
    if json:
        commands = [{"command": f"ens {tool.name}", "about": tool.about} for tool in tools]
        print_json({"guide": text, "commands": commands})
    else:
        print(text, end="")
