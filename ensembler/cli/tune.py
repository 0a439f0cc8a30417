"""`ens tune RECIPE`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ensembler.cli.began import command_began
from ensembler.cli.options import (
    Artifacts,
    DeadlineOption,
    Debug,
    Device,
    Json,
    Overrides,
    Quiet,
    RecipeArgument,
    Workers,
)
from ensembler.cli.progress import show_progress
from ensembler.cli.terminal import print_json, print_table, stoppable
from ensembler.deadline import parse_deadline
from ensembler.machine.execution import Execution
from ensembler.signals import SignalStop

if TYPE_CHECKING:
    from ensembler.experiments.tune import TuneResult


def command(
    recipe: RecipeArgument,
    trials: Annotated[
        int | None,
        typer.Option(
            "--trials",
            min=1,
            metavar="N",
            help="How many trials are finished in the end (default: the recipe's).",
        ),
    ] = None,
    deadline: DeadlineOption = None,
    rebuild: Annotated[
        bool,
        typer.Option(
            "--rebuild",
            help="Make the study again from the trials' members; its old file is moved aside.",
        ),
    ] = False,
    overrides: Overrides = None,
    device: Device = "auto",
    workers: Workers = None,
    jobs: Annotated[
        int,
        typer.Option(
            "--jobs",
            min=1,
            max=256,
            metavar="N",
            help="Trials tried at once, each in a process.",
        ),
    ] = 1,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
    artifacts: Artifacts = None,
) -> None:
    """Search for options of a member as the recipe's tune: says; every trial is a member."""
    began = command_began()
    end = None if deadline is None else parse_deadline(deadline, began=began)
    from ensembler.pipeline.check import check_training_installed
    from ensembler.predictions.store import artifacts_folder
    from ensembler.recipe import Recipe

    loaded = Recipe.load(recipe, overrides or ())
    check_training_installed("ens tune")
    from ensembler.experiments.tune import tune_recipe

    with (
        stoppable(f"the same `ens tune {recipe}`"),
        show_progress(quiet=quiet) as progress,
        (stop := SignalStop(progress.warn)).released(),
    ):
        result = tune_recipe(
            loaded,
            artifacts_folder(artifacts),
            trials=trials,
            execution=Execution.on(device, workers, jobs),
            progress=progress,
            stop=stop,
            deadline=end,
            rebuild=rebuild,
        )
    if json:
        print_json({**result.to_json(), "next": _next(result, recipe)})
    else:
        print_search(result, recipe)
    if result.best is None:
        raise typer.Exit(1)


def _next(result: TuneResult, recipe: Path) -> list[dict[str, str]]:
    """Commands that go on from here, and why."""
    if result.stopped is not None:
        return [{"command": f"ens tune {recipe}", "why": "resumes the search"}]
    if result.recipe is None:
        return []
    return [
        {
            "command": f"ens run {recipe}",
            "why": "blends the completed trials with the members",
        },
        {
            "command": f"ens run {result.recipe}",
            "why": "trains the completed trials as a run",
        },
    ]


def print_search(result: TuneResult, recipe: Path) -> None:
    """Print the trials, what mattered, and what to do next."""
    from ensembler.experiments.tables import search_tables

    for table in search_tables(result):
        print_table(table)
    if result.ended is not None:
        print(f"The search ended early: {result.ended}.")
    if result.stopped is not None:
        why = {"deadline": "Stopped for the deadline", "interrupted": "Interrupted"}
        print(
            f"{why.get(result.stopped, 'Stopped')}; `ens tune {recipe}` resumes the search."
        )
    if result.completed:
        print(f"Completed over all folds: {', '.join(result.completed)}.")
    if result.recipe is not None:
        print(f"Their recipe: {result.recipe}")
    print(f"The run is in {result.folder}; `ens run {recipe}` blends what is complete.")
