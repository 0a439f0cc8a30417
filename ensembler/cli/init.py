"""`ens init DATA`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ensembler.cli.options import Debug, Json, Quiet
from ensembler.cli.terminal import print_json


def command(
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA", help="A folder, a CSV, or the name of a shipped recipe."
        ),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Where the recipe goes.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Overwrite an existing recipe.")
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Look at a folder or CSV and write a commented recipe that runs as it is."""
    from ensembler.recipe.init import init_recipe

    result = init_recipe(data, out, force=force)
    if json:
        print_json({"recipe": str(result.path), "found": list(result.findings)})
        return
    for finding in result.findings:
        print(finding)
    print(f"The recipe is in {result.path}.")
    print(f"Next: `ens run {result.path}`")
