"""A recipe's trackers, told while a run goes on and at its end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ensembler.progress import Progress

if TYPE_CHECKING:
    from ensembler.recipe.spec import RecipeSpec


@contextmanager
def told_to_trackers(
    spec: RecipeSpec, artifacts: Path | None, progress: Progress
) -> Iterator[Progress]:
    """Yield a progress that the recipe's trackers hear, too."""
    if not spec.track:
        yield progress
        return
    from ensembler.predictions.store import RunStore, artifacts_folder
    from ensembler.sharing.trackers.live import tracked
    from ensembler.sharing.trackers.tracker import TRACKERS

    for name in spec.track:
        TRACKERS.check(name)
    store = RunStore(artifacts_folder(artifacts) / spec.name)
    with tracked(store, spec.track, progress) as told:
        yield told


def tell_trackers(spec: RecipeSpec, artifacts: Path | None, progress: Progress) -> None:
    """Tell the recipe's trackers what they lack; one that fails is a warning."""
    if not spec.track:
        return
    from ensembler.predictions.store import RunStore, artifacts_folder
    from ensembler.sharing.trackers.mirror import mirror_in_time

    store = RunStore(artifacts_folder(artifacts) / spec.name)
    if store.samples_path.is_file():
        mirror_in_time(store, spec.track, progress)
