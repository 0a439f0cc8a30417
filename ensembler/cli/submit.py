"""`ens submit RUN`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ensembler.cli.options import Artifacts, Debug, Json, Quiet, RunArgument, names
from ensembler.cli.terminal import print_json


def command(
    run: RunArgument,
    blend: Annotated[
        str | None, typer.Option("--blend", metavar="NAME", help="The blend to submit.")
    ] = None,
    second: Annotated[
        bool,
        typer.Option(
            "--second",
            help="Write the most different submission that is not clearly worse, beside the first.",
        ),
    ] = False,
    format: Annotated[
        str | None, typer.Option("--format", help="labels (the best class) or probs.")
    ] = None,
    columns: Annotated[
        str | None, typer.Option("--columns", metavar="id,label", help="Column names.")
    ] = None,
    template: Annotated[
        Path | None,
        typer.Option(
            "--template", metavar="FILE", help="A sample submission to match exactly."
        ),
    ] = None,
    per: Annotated[
        str | None,
        typer.Option(
            "--per", help="A row for each image, or one for each group: row or group."
        ),
    ] = None,
    reduce: Annotated[
        str | None,
        typer.Option(
            "--reduce", help="With --per group, how its rows are merged: mean, vote or max."
        ),
    ] = None,
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
    """Write a blend as the submission file, matched to a template when one is given."""
    from ensembler.blends.submit import submit_run
    from ensembler.outputs import is_standard_output
    from ensembler.predictions.store import RunStore

    store = RunStore.open(run, artifacts)
    choice = None
    if second:
        from ensembler.blends.second import SECOND_FILE, second_choice

        choice = second_choice(store, blend)
        blend, out = choice.blend, out or store.folder / SECOND_FILE
    result = submit_run(
        store,
        blend,
        format=format,
        columns=names(columns),
        template=template,
        per=per,
        reduce=reduce,
        out=out,
    )
    if json:
        told_second = None if choice is None else choice.to_json()
        print_json({**result.__dict__, "path": str(result.path), "second": told_second})
    else:
        told = sys.stderr if is_standard_output(result.path) else sys.stdout
        for note in result.notes:
            print(f"note: {note}", file=told)
        if choice is not None:
            print(f"{choice.words}.", file=told)
        print(
            f"{result.rows} rows of blend {result.blend} are in {result.path}.", file=told
        )
