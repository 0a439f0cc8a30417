"""`ens mcp`."""

from __future__ import annotations

from typing import Annotated

import typer

from ensembler.agents.tools import Tool
from ensembler.cli.options import Debug, Json, Quiet
from ensembler.cli.terminal import print_json
from ensembler.cli.tools import tools_of


def command(
    context: typer.Context,
    read_only: Annotated[
        bool, typer.Option("--read-only", help="Offer only what changes no run.")
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Serve the commands to an agent by MCP, on standard input and output; --json lists them."""
    from ensembler.agents.guide import guide
    from ensembler.agents.mcp import serve
    from ensembler.recipe.schema import top_level_keys

    all_tools = tools_of(context)
    tools = [tool for tool in all_tools if tool.only_looks or not read_only]
    if json:
        print_json({"tools": [_listed(tool) for tool in tools]})
        return
    serve(tools, guide(tools, top_level_keys()))


def _listed(tool: Tool) -> dict[str, object]:
    return {
        "name": tool.name,
        "about": tool.about,
        "read_only": tool.only_looks,
        "options": [option.name for option in tool.options],
    }
