"""`ens run RECIPE`."""

from __future__ import annotations

import typer

from ensembler.cli.options import (
    Artifacts,
    Debug,
    Device,
    Folds,
    Jobs,
    Json,
    Members,
    Overrides,
    Quiet,
    RecipeArgument,
    Workers,
    fold_numbers,
    names,
)
from ensembler.cli.progress import show_progress
from ensembler.cli.terminal import print_json, stoppable
from ensembler.machine.execution import Execution


def command(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    members: Members = None,
    folds: Folds = None,
    device: Device = "auto",
    workers: Workers = None,
    jobs: Jobs = 1,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
    artifacts: Artifacts = None,
) -> None:
    """Do everything that is missing: train, predict, blend, submit. A second run does nothing."""
    from ensembler.cli.evaluate import print_evaluation
    from ensembler.pipeline.check import check_training_installed
    from ensembler.predictions.store import artifacts_folder
    from ensembler.recipe import Recipe

    loaded = Recipe.load(recipe, overrides or ())
    check_training_installed("ens run")
    from ensembler.pipeline.run import run_recipe

    with stoppable(f"`ens run {recipe}`"), show_progress(quiet=quiet) as progress:
        result = run_recipe(
            loaded,
            artifacts_folder(artifacts),
            execution=Execution(device, workers, jobs),
            members=names(members),
            folds=fold_numbers(folds),
            progress=progress,
        )
    failures = [failure.__dict__ for failure in result.failures]
    if json:
        evaluation = result.evaluation.to_json() if result.evaluation else None
        print_json(
            {
                "run": result.run,
                "folder": str(result.folder),
                "trained_folds": result.trained,
                "blend": result.blend,
                "submission": str(result.submission) if result.submission else None,
                "failures": failures,
                "evaluation": evaluation,
            }
        )
    else:
        if result.evaluation is not None:
            print_evaluation(result.evaluation)
        if not result.trained and not result.new_blend and not failures:
            print("Everything was there already; nothing was trained or blended.")
        print(f"The run is in {result.folder}.")
        if result.submission:
            print(f"Ready to submit: {result.submission}")
    if failures:
        raise typer.Exit(1)
