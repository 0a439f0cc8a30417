"""`ens replay RUN N`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ensembler.cli.options import Artifacts, Debug, Json, Quiet, RunArgument
from ensembler.cli.terminal import print_json


def command(
    run: RunArgument,
    n: Annotated[
        int,
        typer.Argument(metavar="N", help="A submission's number in `ens history RUN`."),
    ],
    remake: Annotated[
        bool,
        typer.Option(
            "--remake",
            help="Compute it from the members and the blend of then, not the kept file.",
        ),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="FILE", help="Write here instead of the run's submission.csv."
        ),
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
    artifacts: Artifacts = None,
) -> None:
    """Write a submission of the history again, byte for byte, or say which file changed."""
    from ensembler.blends.replay import replay
    from ensembler.outputs import is_standard_output
    from ensembler.predictions.store import RunStore

    result = replay(RunStore.open(run, artifacts), n, out=out, remake=remake)
    if json:
        print_json({**result.__dict__, "path": str(result.path)})
        return
    told = sys.stderr if is_standard_output(result.path) else sys.stdout
    for note in result.notes:
        print(f"note: {note}", file=told)
    how = "made again, byte for byte" if result.made_again else "as it was"
    print(f"Submission {n} is in {result.path}, {how}.", file=told)
