"""`ens report RUN|RECIPE`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ensembler.cli.options import Artifacts, Debug, Json, Overrides, Quiet
from ensembler.cli.progress import show_progress
from ensembler.cli.terminal import print_json
from ensembler.errors import RequestError

if TYPE_CHECKING:
    from ensembler.progress import Progress
    from ensembler.report.report import WrittenReport


def command(
    what: Annotated[
        str,
        typer.Argument(
            metavar="RUN|RECIPE", help="A run's name or folder, or a recipe file (YAML)."
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Write the page there."),
    ] = None,
    pictures: Annotated[
        int,
        typer.Option(
            "--pictures", min=0, max=200, metavar="N", help="At most so many pictures."
        ),
    ] = 120,
    overrides: Overrides = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
    artifacts: Artifacts = None,
) -> None:
    """Write one page to look at: what a run is worth, or what a recipe's data look like."""
    from ensembler.arguments import check_is, what_is

    with show_progress(quiet=quiet or json) as progress:
        if what_is(what) == "recipe":
            written = _of_recipe(Path(what), out, pictures, overrides, artifacts, progress)
        else:
            check_is(what, "run")
            if overrides:
                raise RequestError("--set changes a recipe; a run is shown as it is")
            written = _of_run(what, out, pictures, artifacts, progress)
    if json:
        print_json(written.to_json())
        return
    for note in written.notes:
        print(f"note: {note}")
    print(f"{written.file} ({written.size / 1e6:.2f} MB)")


def _of_run(
    run: str, out: Path | None, pictures: int, artifacts: Path | None, progress: Progress
) -> WrittenReport:
    from ensembler.predictions.store import RunStore, artifacts_folder
    from ensembler.report.report import report_run

    store = RunStore.open(run, artifacts)
    return report_run(
        store, artifacts_folder(artifacts), out=out, pictures=pictures, progress=progress
    )


def _of_recipe(
    path: Path,
    out: Path | None,
    pictures: int,
    overrides: list[str] | None,
    artifacts: Path | None,
    progress: Progress,
) -> WrittenReport:
    from ensembler.pipeline.check import check_training_installed
    from ensembler.predictions.store import artifacts_folder
    from ensembler.recipe.load import Recipe
    from ensembler.recipe.own_code import introduce_code_of
    from ensembler.report.report import report_recipe

    recipe = Recipe.load(path, overrides or ())
    check_training_installed("ens report RECIPE")
    introduce_code_of(recipe, progress)
    return report_recipe(
        recipe,
        artifacts_folder(artifacts),
        out=out,
        pictures=pictures,
        progress=progress,
    )
