"""`ens export RUN`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ensembler.cli.options import Artifacts, Debug, Json, Quiet, RunArgument
from ensembler.cli.terminal import print_json


def command(
    run: RunArgument,
    member: Annotated[
        str | None, typer.Option("--member", metavar="NAME", help="The member to export.")
    ] = None,
    blend: Annotated[
        str | None, typer.Option("--blend", metavar="NAME", help="The blend to export.")
    ] = None,
    format: Annotated[str, typer.Option("--format", help="csv, npy or parquet.")] = "csv",
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="The folder the files go to.")
    ] = Path(),
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
    artifacts: Artifacts = None,
) -> None:
    """Write a member's or a blend's probabilities as CSV, npy or Parquet."""
    from ensembler.predictions.export import export_predictions
    from ensembler.predictions.store import RunStore

    result = export_predictions(
        RunStore.open(run, artifacts), out, member=member, blend=blend, format=format
    )
    if json:
        print_json(
            {
                "run": result.run,
                "name": result.name,
                "files": [str(path) for path in result.files],
            }
        )
    else:
        print(f"{result.name} is in {' and '.join(str(path) for path in result.files)}.")
