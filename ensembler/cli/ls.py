"""`ens ls [RUN|POOL]`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ensembler.cli.options import Artifacts, Debug, Json, Quiet
from ensembler.cli.terminal import print_json, print_table
from ensembler.errors import RequestError


def command(
    run: Annotated[
        str | None,
        typer.Argument(
            metavar="[RUN|POOL]", help="A run's name or folder, or a pool; none = all runs."
        ),
    ] = None,
    mine: Annotated[
        str | None,
        typer.Option(
            "--run",
            metavar="RUN",
            help="Of a pool: what each member would add to the blend of this run (default: the one "
            "run with its folds).",
        ),
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
    artifacts: Artifacts = None,
) -> None:
    """List the runs, what is in one (members, views, blends, submission), or a team's pool."""
    from ensembler.arguments import what_is
    from ensembler.evaluation.ls import list_run, list_runs
    from ensembler.evaluation.tables import listing_tables, runs_table
    from ensembler.predictions.store import RunStore, artifacts_folder

    if run is None:
        root = artifacts_folder(artifacts)
        runs = list_runs(root)
        if json:
            print_json(
                {"artifacts": str(root), "runs": [listing.to_json() for listing in runs]}
            )
        elif not runs:
            print(f"No runs in {root} yet; `ens run RECIPE` makes one.")
        else:
            print_table(runs_table(root, runs))
        return
    if what_is(run) == "pool":
        _print_pool(run, mine, json, artifacts)
        return
    if mine is not None:
        raise RequestError(f"--run is for a pool, and {run} is a run")
    listing = list_run(RunStore.open(run, artifacts), check=True)
    if json:
        print_json(listing.to_json())
        return
    for table in listing_tables(listing):
        print_table(table)
    print(f"submission: {listing.submission or 'none yet'}")
    if listing.submission_altered:
        print(
            f"It is not as it was written (altered or cut short): `ens submit {listing.run}` "
            "writes it again."
        )


def _print_pool(source: str, run: str | None, json: bool, artifacts: Path | None) -> None:
    from ensembler.predictions.store import RunStore, artifacts_folder
    from ensembler.sharing.ls import list_pool, run_beside
    from ensembler.sharing.tables import pool_table

    if run is None:
        store = run_beside(source, artifacts_folder(artifacts))
    else:
        store = RunStore.open(run, artifacts)
    listing = list_pool(source, store)
    if json:
        print_json(listing.to_json())
    else:
        print_table(pool_table(listing))
