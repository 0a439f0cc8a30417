"""`ens report RUN|RECIPE`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ensembler.cli.options import Artifacts, Debug, Json, Overrides, Quiet
from ensembler.cli.progress import show_progress
from ensembler.cli.terminal import print_json
from ensembler.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ensembler.predictions.store import RunStore
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
    compare: Annotated[
        str | None,
        typer.Option(
            "--compare", metavar="RUN2", help="Begin with the differences from another run."
        ),
    ] = None,
    watch: Annotated[
        bool,
        typer.Option(
            "--watch",
            help="Serve the page on this machine while the run goes on, until Ctrl-C.",
        ),
    ] = False,
    overrides: Overrides = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
    artifacts: Artifacts = None,
) -> None:
    """Write one page to look at: what a run is worth, or what a recipe's data look like."""
    from ensembler.arguments import check_is, what_is

    asked = _Asked(what, out, pictures, compare, watch, tuple(overrides or ()), artifacts)
    is_recipe = what_is(what) == "recipe"
    if not is_recipe:
        check_is(what, "run")
    asked.check(is_recipe=is_recipe, json=json)
    with show_progress(quiet=quiet or json) as progress:
        written = _of_recipe(asked, progress) if is_recipe else _of_run(asked, progress)
    if json:
        print_json(written.to_json())
        return
    for note in written.notes:
        print(f"note: {note}")
    print(f"{written.file} ({written.size / 1e6:.2f} MB)")


@dataclass(frozen=True)
class _Asked:
    """What the command was asked for."""

    what: str
    out: Path | None
    pictures: int
    compare: str | None
    watch: bool
    overrides: tuple[str, ...]
    artifacts: Path | None

    def check(self, *, is_recipe: bool, json: bool) -> None:
        """Raise RequestError for options that do not go together."""
        if not is_recipe and self.overrides:
            raise RequestError("--set changes a recipe; a run is shown as it is")
        if is_recipe and (self.compare is not None or self.watch):
            raise RequestError("--compare and --watch are for runs, not for recipes")
        if self.watch and self.compare is not None:
            raise RequestError("--watch shows one run; leave out --compare")
        if self.watch and json:
            raise RequestError("--watch goes on until Ctrl-C; leave out --json")


def _of_run(asked: _Asked, progress: Progress) -> WrittenReport:
    from ensembler.predictions.store import RunStore, artifacts_folder
    from ensembler.report.report import report_run

    folder = artifacts_folder(asked.artifacts)
    store = RunStore.open(asked.what, asked.artifacts)
    other = None
    if asked.compare is not None:
        other = RunStore.open(asked.compare, asked.artifacts)
    options: dict[str, Any] = {"out": asked.out, "pictures": asked.pictures}
    if asked.watch:
        _watch(store, partial(report_run, store, folder, **options), progress)
    return report_run(store, folder, **options, compare=other, progress=progress)


def _watch(
    store: RunStore, write: Callable[..., WrittenReport], progress: Progress
) -> None:
    """Serve the page, written again when something is finished, until Ctrl-C."""
    import threading

    from ensembler.report.watch import EVERY, Watch, watch

    file = write(reload=EVERY).file
    end = threading.Event()
    try:
        with Watch(file) as served:
            progress.note(f"{served.url} shows the run as it goes on; Ctrl-C ends it")
            watch(RunStore(store.folder), partial(write, reload=EVERY), end.wait)
    except KeyboardInterrupt:
        progress.note("no longer served; the page stays")


def _of_recipe(asked: _Asked, progress: Progress) -> WrittenReport:
    from ensembler.pipeline.check import check_training_installed
    from ensembler.predictions.store import artifacts_folder
    from ensembler.recipe.load import Recipe
    from ensembler.recipe.own_code import introduce_code_of
    from ensembler.report.report import report_recipe

    recipe = Recipe.load(Path(asked.what), asked.overrides)
    check_training_installed("ens report RECIPE")
    introduce_code_of(recipe, progress)
    return report_recipe(
        recipe,
        artifacts_folder(asked.artifacts),
        out=asked.out,
        pictures=asked.pictures,
        progress=progress,
    )
