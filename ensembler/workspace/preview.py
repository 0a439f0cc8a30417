"""A recipe and its run as `ens run` would find them, without writing into the run."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ensembler.audit.audit import with_duplicates_grouped
from ensembler.data.samples import SampleSet, drop_samples, read_samples
from ensembler.files import check_name
from ensembler.predictions.store import RunStore
from ensembler.progress import Progress
from ensembler.recipe.load import Recipe
from ensembler.workspace.changes import check_classes, check_options, check_rows
from ensembler.workspace.epochs import with_kept_epochs
from ensembler.workspace.workspace import Workspace, create_run


@contextmanager
def preview_workspace(
    recipe: Recipe, artifacts: Path, progress: Progress | None = None
) -> Iterator[Workspace]:
    """Yield the workspace of a run that is there, or of one as it would be made.

    The latter lies in a temporary folder while the block runs, with every sample of the recipe:
    broken images are found when they are decoded. Raises ChangedRecipeError as `open_workspace`.
    """
    progress = progress or Progress()
    store = RunStore(artifacts / check_name("run", recipe.spec.name))
    recipe = with_kept_epochs(recipe, store)
    samples = read_samples(recipe.spec.data, recipe.spec.folds)
    if recipe.spec.data.group_duplicates:
        samples = with_duplicates_grouped(samples, artifacts, progress)
    if store.samples_path.is_file():
        samples = _as_in_run(recipe, store, samples)
        yield Workspace(recipe, store, samples, artifacts, progress)
        return
    with tempfile.TemporaryDirectory(prefix="ens-plan-") as folder:
        drawn = RunStore(Path(folder) / store.name)
        drawn.folder.mkdir()
        create_run(recipe, drawn, samples, artifacts, progress)
        yield Workspace(recipe, drawn, samples, artifacts, progress)


def _as_in_run(recipe: Recipe, store: RunStore, samples: SampleSet) -> SampleSet:
    check_options(recipe.spec, store)
    check_classes(store, samples)
    if store.lock.left_out:
        samples = drop_samples(samples, store.lock.left_out)
    check_rows(recipe.spec, store, samples)
    return samples
