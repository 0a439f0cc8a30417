"""`ens report RUN|RECIPE`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ensembler.cli.options import Artifacts, Debug, Json, Quiet
from ensembler.cli.progress import show_progress
from ensembler.cli.terminal import print_json


def command(
    what: Annotated[
        str,
        typer.Argument(
            metavar="RUN|RECIPE", help="A run's name or folder, or a recipe file (YAML)."
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Write the page there."),
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
    artifacts: Artifacts = None,
) -> None:
    """Write one page to look at: what a run is worth, or what a recipe's data look like."""
    from ensembler.predictions.store import RunStore, artifacts_folder
    from ensembler.report.report import report_run

    with show_progress(quiet=quiet or json) as progress:
        store = RunStore.open(what, artifacts)
        written = report_run(store, artifacts_folder(artifacts), out=out, progress=progress)
    if json:
        print_json(written.to_json())
        return
    for note in written.notes:
        print(f"note: {note}")
    print(f"{written.file} ({written.size / 1e6:.2f} MB)")
