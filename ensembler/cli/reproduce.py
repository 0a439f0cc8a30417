"""`ens reproduce RUN`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ensembler.cli.options import (
    Artifacts,
    Debug,
    Devices,
    Jobs,
    Json,
    Quiet,
    RunArgument,
    Workers,
    fold_numbers,
    names,
)
from ensembler.cli.progress import show_progress
from ensembler.cli.terminal import print_json, print_table, stoppable
from ensembler.machine.execution import Execution

if TYPE_CHECKING:
    from ensembler.pipeline.reproduce import Reproduction


def command(
    run: RunArgument,
    member: Annotated[
        str | None,
        typer.Option("--member", metavar="A,B", help="Only these members (default: all)."),
    ] = None,
    fold: Annotated[
        str | None,
        typer.Option("--fold", metavar="0,2", help="Only these folds (default: all)."),
    ] = None,
    tolerance: Annotated[
        float,
        typer.Option(
            "--tolerance",
            metavar="SHARE",
            min=0.0,
            max=1.0,
            help="Share of probability that may move on average, where bits cannot be the same.",
        ),
    ] = 0.02,
    device: Devices = "auto",
    workers: Workers = None,
    jobs: Jobs = 1,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
    artifacts: Artifacts = None,
) -> None:
    """Train folds again, aside, and compare: same versions, same logits? Exit code 1 if not."""
    from ensembler.pipeline.check import check_training_installed
    from ensembler.predictions.store import RunStore

    store = RunStore.open(run, artifacts)
    check_training_installed("ens reproduce")
    from ensembler.pipeline.reproduce import reproduce

    again = f"`ens reproduce {run}` with the same options"
    with stoppable(again), show_progress(quiet=quiet) as progress:
        result = reproduce(
            store,
            members=names(member),
            folds=fold_numbers(fold),
            tolerance=tolerance,
            execution=Execution.on(device, workers, jobs),
            progress=progress,
        )
    if json:
        print_json(result.to_json())
    else:
        print_reproduction(result)
    if result.verdict == "different":
        raise typer.Exit(1)


def print_reproduction(result: Reproduction) -> None:
    """Print the folds side by side, what differs in the environment, and the verdict."""
    print_table(result.table())
    for failure in result.failures:
        print(f"failed: {failure.message}")
    print(result.words)
