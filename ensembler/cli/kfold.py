"""`ens kfold RECIPE`."""

from __future__ import annotations

import typer

from ensembler.cli.options import (
    Artifacts,
    Debug,
    Device,
    Folds,
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


def command(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    members: Members = None,
    folds: Folds = None,
    device: Device = "auto",
    workers: Workers = 0,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
    artifacts: Artifacts = None,
) -> None:
    """Train the K-fold members; each fold's logits are kept as it finishes."""
    from ensembler.pipeline.check import check_training_installed
    from ensembler.predictions.store import artifacts_folder
    from ensembler.recipe import Recipe

    loaded = Recipe.load(recipe, overrides or ())
    check_training_installed("ens kfold")
    from ensembler.pipeline.run_recipe import kfold_recipe

    with stoppable(f"`ens kfold {recipe}`"), show_progress(quiet=quiet) as progress:
        result = kfold_recipe(
            loaded,
            artifacts_folder(artifacts),
            device=device,
            workers=workers,
            members=names(members),
            folds=fold_numbers(folds),
            progress=progress,
        )
    if json:
        print_json(
            {
                "run": result.run,
                "trained_folds": len(result.trained),
                "complete": result.complete,
                "incomplete": result.incomplete,
                "failures": [failure.__dict__ for failure in result.failures],
            }
        )
    else:
        print(f"Trained {len(result.trained)} folds; complete members: {', '.join(result.complete) or 'none'}.")
        if result.incomplete:
            print(f"Not complete yet: {', '.join(result.incomplete)}.")
        print(f"Next: `ens run {recipe}` blends and submits; `ens ls {result.run}` shows what is there.")
    if result.failures:
        raise typer.Exit(1)
