"""`ens ablate RECIPE`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ensembler.cli.options import (
    Artifacts,
    Debug,
    Device,
    Json,
    Overrides,
    Quiet,
    RecipeArgument,
    Workers,
    names,
)
from ensembler.cli.progress import show_progress
from ensembler.cli.terminal import print_json, print_table, stoppable
from ensembler.machine.execution import Execution

if TYPE_CHECKING:
    from ensembler.experiments.ablate import Ablation


def command(
    recipe: RecipeArgument,
    axis: Annotated[
        list[str],
        typer.Option(
            "--axis",
            metavar="OPTION=A,B",
            help="A member option and values to try, such as augment=none,light; several axes make "
            "every combination.",
        ),
    ],
    member: Annotated[
        str | None,
        typer.Option(
            "--member",
            metavar="NAME",
            help="The member to vary (default: the recipe's first).",
        ),
    ] = None,
    folds: Annotated[
        int | None,
        typer.Option(
            "--folds", min=2, help="How many folds to split into (default: the recipe's)."
        ),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option("--epochs", min=1, help="Epochs of every variant.")
    ] = None,
    seeds: Annotated[
        int,
        typer.Option(
            "--seeds",
            min=1,
            max=100,
            help="Train every variant with this many seeds, and average the scores.",
        ),
    ] = 1,
    metrics: Annotated[
        str | None,
        typer.Option("--metrics", metavar="A,B", help="Which scores to compare."),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            "--name", help="The run of the variants (default: RECIPE-ablate-OPTION)."
        ),
    ] = None,
    overrides: Overrides = None,
    device: Device = "auto",
    workers: Workers = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
    artifacts: Artifacts = None,
) -> None:
    """Train variants of a member on equal folds and seeds; say which differences exceed noise."""
    from ensembler.pipeline.check import check_training_installed
    from ensembler.predictions.store import artifacts_folder
    from ensembler.recipe import Recipe

    loaded = Recipe.load(recipe, overrides or ())
    check_training_installed("ens ablate")
    from ensembler.experiments.ablate import Axis, ablate_recipe

    with (
        stoppable(f"the same `ens ablate {recipe}`"),
        show_progress(quiet=quiet) as progress,
    ):
        result = ablate_recipe(
            loaded,
            [Axis.parse(given) for given in axis],
            artifacts_folder(artifacts),
            member=member,
            folds=folds,
            epochs=epochs,
            seeds=seeds,
            metrics=names(metrics),
            name=name,
            execution=Execution(device, workers),
            progress=progress,
        )
        for warning in result.warnings:
            progress.warn(warning)
    if json:
        print_json(result.to_json())
    else:
        print_ablation(result)
    if result.failures:
        raise typer.Exit(1)


def print_ablation(ablation: Ablation) -> None:
    """Print scores, gains over the first variant, and what the intervals mean.

    The gains come with their joint intervals.
    """
    from ensembler.experiments.tables import ablation_tables

    for table in ablation_tables(ablation):
        print_table(table)
    print(
        f"Logits of all variants are kept: `ens blend {ablation.run} --target {ablation.target}` "
        "blends them."
    )
