"""`ens demo-data KIND OUT`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ensembler.cli.options import Debug, Json, Quiet
from ensembler.cli.terminal import print_json


def command(
    kind: Annotated[
        str, typer.Argument(metavar="KIND", help="What to draw: shapes or masks.")
    ],
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="A folder that is new or empty.")
    ],
    n: Annotated[
        int, typer.Option("--n", min=10, help="Shapes: how many labelled images.")
    ] = 2000,
    persons: Annotated[
        int, typer.Option("--persons", min=12, help="Masks: how many labelled persons.")
    ] = 300,
    seed: Annotated[
        int, typer.Option("--seed", min=0, help="Equal seeds draw equal images.")
    ] = 0,
    groups: Annotated[
        bool,
        typer.Option("--groups", help="Several images of one origin, as a group column."),
    ] = False,
    odd: Annotated[
        bool, typer.Option("--odd", help="Add files of every kind, and a few broken ones.")
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Draw a small image data set, with tables and a recipe that runs as it is."""
    from ensembler.demo.demo_data import check_demo_data, write_demo_data
    from ensembler.pipeline.check import check_training_installed

    check_demo_data(kind, out)
    check_training_installed("ens demo-data")
    written = write_demo_data(
        kind, out, n=n, persons=persons, seed=seed, groups=groups, odd=odd
    )
    if json:
        print_json(
            {
                "out": str(out),
                "kind": kind,
                "images": written,
                "recipe": str(out / "recipe.yaml"),
            }
        )
    else:
        print(f"{written} images are in {out}.")
        print(f"Next: `ens run {out / 'recipe.yaml'}`")
