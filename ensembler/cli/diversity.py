"""`ens diversity RUN`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ensembler.cli.options import Artifacts, Debug, Json, Members, Quiet, RunArgument, names
from ensembler.cli.terminal import number, print_json, print_table

if TYPE_CHECKING:
    from ensembler.evaluation.diversity import RunDiversity

MOST = 12  # members in a matrix on a terminal


def command(
    run: RunArgument,
    members: Members = None,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Also write a page with plots.")
    ] = None,
    merge: Annotated[str, typer.Option("--merge", help="How views are merged (mean).")] = "mean",
    views: Annotated[
        str | None, typer.Option("--views", metavar="A,B", help="Only these views.")
    ] = None,
    common_rows: Annotated[
        bool, typer.Option("--common-rows", help="Compare on the rows that all members predict.")
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
    artifacts: Artifacts = None,
) -> None:
    """Show where members disagree, whether they err together, and which member rescues which class."""
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
    """Print the matrices (of small pools), the classes each member saves, and who changes on test rows."""
    found = result.found
    if len(found.names) <= MOST:
        for title, matrix in (
            ("disagreement: share of rows classified differently", found.disagreement),
            ("error correlation: do they err together", found.error_correlation),
        ):
            rows = [
                [name, *(number(value, 3) for value in row)]
                for name, row in zip(found.names, matrix, strict=True)
            ]
            print_table(f"{result.run}: {title}", ["member", *found.names], rows)
    rows = []
    for i, name in enumerate(found.names):
        saved = found.saves[i]
        best = int((saved / found.class_sizes.clip(1)).argmax())
        test = None if found.agreement_test is None else float(found.agreement_test[i])
        rows.append(
            [
                name,
                number(float(found.agreement_oof[i]), 3),
                number(test, 3),
                str(int(saved.sum())),
                f"{found.classes[best]} ({int(saved[best])} of {int(found.class_sizes[best])})",
            ]
        )
    columns = ["member", "agreement OOF", "agreement test", "rows saved", "most of"]
    print_table(f"{result.run}: each member beside the others, {result.n_rows} rows", columns, rows)
    for name in found.shifted:
        print(
            f"{name} agrees with the others differently on test rows: a leak, or rows it sees "
            "differently."
        )
    if result.page is not None:
        print(f"The page: {result.page}")
