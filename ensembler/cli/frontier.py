"""`ens frontier RUN`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ensembler.cli.options import Artifacts, Debug, Device, Json, Quiet, RunArgument
from ensembler.cli.progress import show_progress
from ensembler.cli.terminal import print_json, print_table, stoppable


def command(
    run: RunArgument,
    blend: Annotated[
        str | None,
        typer.Option("--blend", metavar="NAME", help="The full blend (the submitted one)."),
    ] = None,
    figure: Annotated[
        Path | None,
        typer.Option("--figure", metavar="FILE", help="Also draw it, as an SVG file."),
    ] = None,
    device: Device = "auto",
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
    artifacts: Artifacts = None,
) -> None:
    """Show cost against score: best member, soups, students, smaller blends, the full blend."""
    from ensembler.outputs import check_output, write_output
    from ensembler.pipeline.check import check_training_installed
    from ensembler.predictions.store import RunStore

    store = RunStore.open(run, artifacts)
    if figure is not None:
        check_output(figure)
    check_training_installed("ens frontier")
    from ensembler.pipeline.frontier import frontier

    with stoppable(f"`ens frontier {run}`"), show_progress(quiet=quiet) as progress:
        found = frontier(store, blend, device=device, progress=progress)
    if figure is not None:
        write_output(figure, found.figure().encode())
    if json:
        print_json({**found.to_json(), "figure": None if figure is None else str(figure)})
        return
    print_table(found.table())
    if figure is not None:
        print(f"The figure: {figure}")
