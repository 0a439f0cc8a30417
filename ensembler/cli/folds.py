"""`ens folds RECIPE`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ensembler.cli.options import Artifacts, Debug, Json, Overrides, Quiet, RecipeArgument
from ensembler.cli.progress import show_progress
from ensembler.cli.terminal import print_json


def command(
    recipe: RecipeArgument,
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="The CSV to write.")
    ] = Path("folds.csv"),
    overrides: Overrides = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
    artifacts: Artifacts = None,
) -> None:
    """Write the split of a recipe as a CSV, for a team to use the same folds."""
    from ensembler.pipeline.check import check_training_installed
    from ensembler.predictions.store import artifacts_folder
    from ensembler.recipe.load import Recipe

    loaded = Recipe.load(recipe, overrides or ())
    check_training_installed("ens folds")
    from ensembler.workspace.folds import write_folds

    with show_progress(quiet=quiet or json) as progress:
        written = write_folds(loaded, artifacts_folder(artifacts), out, progress)
    if json:
        print_json(written.to_json())
        return
    sizes = ", ".join(f"fold {fold}: {n}" for fold, n in written.folds.items())
    held_out = f", held out: {written.held_out}" if written.held_out else ""
    print(f"{written.rows} rows are in {written.out} ({sizes}{held_out}).")
    print(f"`folds: {written.out.name}` in a recipe beside it takes them.")
