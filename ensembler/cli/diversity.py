"""`ens diversity RUN`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ensembler.cli.options import Artifacts, Debug, Json, Members, Quiet, RunArgument, names
from ensembler.cli.terminal import print_json, print_table

if TYPE_CHECKING:
    from ensembler.evaluation.diversity import RunDiversity


def command(
    run: RunArgument,
    members: Members = None,
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE", help="Also write a page with plots."),
    ] = None,
    merge: Annotated[
        str, typer.Option("--merge", help="How views are merged (mean).")
    ] = "mean",
    views: Annotated[
        str | None, typer.Option("--views", metavar="A,B", help="Only these views.")
    ] = None,
    common_rows: Annotated[
        bool,
        typer.Option("--common-rows", help="Compare on the rows that all members predict."),
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
    artifacts: Artifacts = None,
) -> None:
    """Show where members disagree, err together, and which member rescues which class."""
    from ensembler.evaluation.diversity import compare_members
    from ensembler.predictions.merging import check_merge
    from ensembler.predictions.store import RunStore

    result = compare_members(
        RunStore.open(run, artifacts),
        names(members),
        merge=check_merge(merge),
        views=names(views),
        common_rows=common_rows,
        page=html,
    )
    if json:
        print_json(result.to_json())
    else:
        print_diversity(result)


def print_diversity(result: RunDiversity) -> None:
    """Print the matrices (of small pools) and the classes each member saves.

    Also which members change on test rows.
    """
    from ensembler.evaluation.tables import diversity_tables

    for table in diversity_tables(result):
        print_table(table)
    if result.page is not None:
        print(f"The page: {result.page}")
