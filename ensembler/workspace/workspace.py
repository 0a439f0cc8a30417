"""A recipe meets its run: made at the first start, compared at every later one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ensembler.audit.audit import with_duplicates_grouped
from ensembler.data.corrections import corrections_csv
from ensembler.data.folds import split_samples
from ensembler.data.samples import SampleSet, drop_samples, read_samples
from ensembler.data.train_labels import OwnBins, cells_to_train_on
from ensembler.errors import RequestError, UnknownNameError
from ensembler.files import check_name, claim, write_bytes
from ensembler.predictions.publish import clean_up
from ensembler.predictions.samples import fold_repeats, read_samples_csv, write_samples
from ensembler.predictions.store import RunStore, cache_folder
from ensembler.progress import Progress
from ensembler.recipe.load import Recipe
from ensembler.recipe.members import PlannedMember, planned_members
from ensembler.recipe.own_code import code_named_by, introduce_code
from ensembler.recipe.spec import RecipeSpec
from ensembler.workspace.changes import (
    check_classes,
    check_fingerprints,
    check_options,
    check_rows,
)
from ensembler.workspace.epochs import with_kept_epochs
from ensembler.workspace.fingerprints import images_fingerprint
from ensembler.workspace.lock import write_lock

if TYPE_CHECKING:
    from ensembler.data.contents import Contents
    from ensembler.data.pixels import Pixels
    from ensembler.data.spec import InputSpec


@dataclass(frozen=True)
class Workspace:
    """A recipe together with its run and its samples; what the upstream steps work on."""

    recipe: Recipe
    store: RunStore
    samples: SampleSet
    artifacts: Path
    progress: Progress
    _pixels: dict[str, Pixels] = field(default_factory=dict, repr=False)

    @property
    def spec(self) -> RecipeSpec:
        """The checked recipe."""
        return self.recipe.spec

    @cached_property
    def members(self) -> tuple[PlannedMember, ...]:
        """The members that the recipe makes, in its order, soups last."""
        return planned_members(self.spec.members, fold_repeats(self.store.samples.table))

    def select(self, members: Iterable[str] | None) -> tuple[PlannedMember, ...]:
        """The members named (or those of the recipe entries named); all members for None.

        A member that is the mean of others brings those others along.
        """
        if members is None:
            return self.members
        wanted = list(members)
        for name in wanted:
            if not any(member.is_called([name]) for member in self.members):
                raise UnknownNameError(
                    "member",
                    name,
                    [*self.spec.members, *(member.name for member in self.members)],
                )
        called = [member for member in self.members if member.is_called(wanted)]
        parts = set(chain.from_iterable(member.parts for member in called))
        return tuple(
            member
            for member in self.members
            if member.is_called(wanted) or member.name in parts
        )

    @property
    def pool(self) -> tuple[str, ...]:
        """Names of the members that go into the blend."""
        return tuple(member.name for member in self.members if member.in_pool)

    @cached_property
    def image_rows(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Positions among the images of the run's train rows and test rows."""
        position = {sample: i for i, sample in enumerate(self.samples.table["id"])}
        rows = [
            np.array([position[s] for s in part["id"]], dtype=np.int64)
            for part in (self.store.samples.train, self.store.samples.test)
        ]
        return rows[0], rows[1]

    def image_labels(self, target: str) -> NDArray[np.int64]:
        """The labels of all images as they are scored, in their order, as `Target.encode` has them.

        Those of test rows are unknown.
        """
        return self._encoded(target, self.samples.table[target])

    def labels_to_train_on(self, target: str, own: OwnBins) -> NDArray[np.int64]:
        """The same as they are trained on, where the recipe or a member draws them otherwise.

        `own` are the member's training bins.
        """
        return self._encoded(target, self._cells_to_train_on(target, own))

    def image_strata(self, target: str, own: OwnBins) -> NDArray[np.int64]:
        """What a sampler balances, by image `[images]`.

        It is the label to train on, or the rarest of several labels at once.
        """
        encoding = self.samples.target(target)
        rows, _ = self.image_rows
        codes = np.full(len(self.samples.table), -1, dtype=np.int64)
        cells = self._cells_to_train_on(target, own)
        codes[rows] = encoding.strata_codes(cells.to_numpy()[rows].tolist())
        return codes

    def _cells_to_train_on(self, target: str, own: OwnBins) -> pd.Series:
        return cells_to_train_on(self.samples, self.spec.data.target_specs, target, own)

    def _encoded(self, target: str, cells: pd.Series) -> NDArray[np.int64]:
        """The cells of the run's train rows as labels; those of other images are unknown."""
        encoding = self.samples.target(target)
        rows, _ = self.image_rows
        labels = encoding.unknown(len(self.samples.table))
        labels[rows] = encoding.encode(cells.to_numpy()[rows].tolist())
        return labels

    def pixels(self, spec: InputSpec) -> Pixels:
        """All images, prepared for an input: `[images, height, width, channels]`.

        They are memory-mapped where they fit.
        """
        from ensembler.data.pixels import prepare_pixels

        key = spec.model_dump_json()
        if key not in self._pixels:
            self._pixels[key] = prepare_pixels(
                self.samples.images,
                spec,
                cache_folder(self.artifacts),
                self.progress,
            )
        return self._pixels[key]

    @cached_property
    def contents(self) -> Contents:
        """What is known of the images before they are decoded."""
        from ensembler.data.contents import read_contents

        return read_contents(self.samples.images, cache_folder(self.artifacts))

    def input_options(self, spec: InputSpec) -> dict[str, Any]:
        """What decides the pixels of an input.

        Its options, and where earlier versions prepared them differently.
        """
        from ensembler.data.pixel_key import prepared_otherwise

        words = {"axes": "scaled one by one", "bits": "as the files say"}
        return {
            **spec.described,
            **{name: words[name] for name in prepared_otherwise(self.contents, spec)},
        }

    @property
    def image_weights(self) -> NDArray[np.float64]:
        """The sample weight of every image `[images]`, 0 where there is none."""
        return self.samples.table["weight"].fillna(0.0).to_numpy(np.float64)


# raises where an existing run may not be opened with this recipe now
Check = Callable[[Workspace], None]


def open_workspace(
    recipe: Recipe,
    artifacts: Path,
    progress: Progress | None = None,
    *,
    check: Check | None = None,
) -> Workspace:
    """Make the recipe's run, or open it when it is there; what killed processes left is cleaned up.

    `check` looks at a run that is there before anything of it is changed.

    Raises ChangedRecipeError when the run was made from other data, targets, groups or folds.
    """
    progress = progress or Progress()
    for note in recipe.notes:
        progress.note(note)
    store = RunStore(artifacts / check_name("run", recipe.spec.name))
    recipe = with_kept_epochs(recipe, store)
    samples = read_samples(recipe.spec.data, recipe.spec.folds)
    for remark in samples.remarks:
        progress.note(remark.message)
    if not store.samples_path.is_file():
        samples = _without_broken(samples, recipe, artifacts, progress)
    if recipe.spec.data.group_duplicates:
        samples = with_duplicates_grouped(samples, artifacts, progress)
    store.folder.mkdir(parents=True, exist_ok=True)
    with claim(store.lock_path, wait=True):
        if store.samples_path.is_file():
            samples = _compare(recipe, store, samples, artifacts, progress, check)
        else:
            create_run(recipe, store, samples, artifacts, progress)
    clean_up(store.folder, store.lock_path)
    return Workspace(recipe, RunStore(store.folder), samples, artifacts, progress)


def _without_broken(
    samples: SampleSet, recipe: Recipe, artifacts: Path, progress: Progress
) -> SampleSet:
    from ensembler.data.broken import drop_broken
    from ensembler.data.pixels import find_broken

    # the way of preparing them that is needed anyway
    seen = recipe.spec.inputs[0]
    broken = find_broken(samples.images, seen, cache_folder(artifacts), progress)
    kept = drop_broken(samples, broken, recipe.spec.data.on_broken)
    if broken:
        progress.warn(
            f"{len(broken)} images cannot be read and are left out: "
            f"{', '.join(sorted(broken.values())[:5])}"
        )
    return kept


def create_run(
    recipe: Recipe, store: RunStore, samples: SampleSet, artifacts: Path, progress: Progress
) -> None:
    """Make the files of a new run: its recipe, its lock and, last, its samples."""
    split = split_samples(samples, recipe.spec.folds)
    for note in split.notes:
        progress.note(note)
    images = images_fingerprint(samples, artifacts)
    write_lock(recipe, store, samples, split.table, images, left_out=samples.left_out)
    if samples.corrections:
        write_bytes(store.corrections_path, corrections_csv(samples.corrections))
    write_samples(store.samples_path, split.table)  # last: now the run exists


def _compare(
    recipe: Recipe,
    store: RunStore,
    samples: SampleSet,
    artifacts: Path,
    progress: Progress,
    check: Check | None,
) -> SampleSet:
    check_options(recipe.spec, store)
    check_classes(store, samples)
    if store.lock.left_out:
        samples = drop_samples(samples, store.lock.left_out)
    check_rows(recipe.spec, store, samples)
    images = images_fingerprint(samples, artifacts)
    check_fingerprints(store, samples, images)
    if check is not None:
        check(Workspace(recipe, store, samples, artifacts, progress))
    write_lock(recipe, store, samples, store.samples.table, images)
    return samples


def check_run_is_trainable(store: RunStore) -> None:
    """Raise RequestError for a run that was imported and has no recipe to train from."""
    if not store.recipe_path.is_file():
        raise RequestError(
            f"run {store.name!r} was not made from a recipe; there is nothing to train or predict"
        )


def workspace_of_run(
    store: RunStore, progress: Progress | None = None, *, check: Check | None = None
) -> Workspace:
    """The workspace of an existing run, from the resolved recipe it keeps."""
    check_run_is_trainable(store)
    read_samples_csv(store.samples_path)
    recipe = Recipe.load_recorded(store.recipe_path)
    # The folder of a run is no place to import from: it may have come from somebody else.
    introduce_code(code_named_by(recipe.spec), progress or Progress(), [Path.cwd()])
    spec = recipe.spec.model_copy(update={"name": store.name})
    return open_workspace(
        replace(recipe, spec=spec), store.folder.resolve().parent, progress, check=check
    )
