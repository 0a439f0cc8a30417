"""A recipe meets its run: made at the first start, compared at every later one."""

from __future__ import annotations

import hashlib
import io
import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ensembler.audit.audit import with_duplicates_grouped
from ensembler.data.faults import MOST_NAMED
from ensembler.data.folds import split_samples
from ensembler.data.labels import TRAIN_PREFIX
from ensembler.data.samples import SampleSet, drop_samples, read_samples
from ensembler.errors import ChangedRecipeError, RequestError, UnknownNameError
from ensembler.files import claim, sha256_of, write_bytes, write_json
from ensembler.predictions.publish import clean_up
from ensembler.predictions.samples import read_samples_csv, write_samples
from ensembler.predictions.store import RunStore, cache_folder, check_name
from ensembler.progress import Progress
from ensembler.recipe.load import Recipe
from ensembler.recipe.members import MemberJob, member_jobs
from ensembler.recipe.own_code import code_named_by, introduce_code
from ensembler.recipe.spec import RecipeSpec

if TYPE_CHECKING:
    from ensembler.data.contents import Contents
    from ensembler.data.pixels import Pixels
    from ensembler.data.spec import InputSpec

_LOCATIONS = {
    "source",
    "root",
    "test",
    "allow_outside",
}  # where data lie may change; what they are may not
_PACKAGES = (
    "numpy",
    "pandas",
    "scipy",
    "scikit-learn",
    "torch",
    "torchvision",
    "timm",
    "albumentations",
)


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
    def jobs(self) -> tuple[MemberJob, ...]:
        """The members that the recipe makes, in its order, soups last."""
        return member_jobs(self.spec.members, fold_repeats(self.store.samples.table))

    def select(self, members: Iterable[str] | None) -> tuple[MemberJob, ...]:
        """The jobs of the members named (by their own names, or those of recipe entries), all of them for None.

        With a member that is the mean of others come those others.
        """
        if members is None:
            return self.jobs
        wanted = list(members)
        for name in wanted:
            if not any(job.is_called([name]) for job in self.jobs):
                raise UnknownNameError(
                    "member", name, [*self.spec.members, *(job.name for job in self.jobs)]
                )
        parts = {part for job in self.jobs if job.is_called(wanted) for part in job.parts}
        return tuple(job for job in self.jobs if job.is_called(wanted) or job.name in parts)

    @property
    def pool(self) -> tuple[str, ...]:
        """Names of the members that go into the blend."""
        return tuple(job.name for job in self.jobs if job.in_pool)

    @cached_property
    def image_rows(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Positions among the images of the run's train rows and test rows."""
        position = {sample: i for i, sample in enumerate(self.samples.table["id"])}
        rows = [
            np.array([position[s] for s in part["id"]], dtype=np.int64)
            for part in (self.store.samples.train, self.store.samples.test)
        ]
        return rows[0], rows[1]

    def image_labels(self, target: str, *, trained_on: bool = False) -> NDArray[np.int64]:
        """The labels of all images, in their order, as `Target.encode` gives them; those of test rows are unknown.

        `trained_on` asks for the labels to train on, where the recipe draws them otherwise than
        those it scores.
        """
        encoding = self.samples.target(target)
        rows, _ = self.image_rows
        labels = encoding.unknown(len(self.samples.table))
        labels[rows] = encoding.encode(self._train_cells(target, trained_on=trained_on))
        return labels

    def image_strata(self, target: str) -> NDArray[np.int64]:
        """What a sampler balances, by image `[images]`: the label to train on, or the rarest of several at once."""
        encoding = self.samples.target(target)
        rows, _ = self.image_rows
        codes = np.full(len(self.samples.table), -1, dtype=np.int64)
        codes[rows] = encoding.strata_codes(self._train_cells(target, trained_on=True))
        return codes

    def _train_cells(self, target: str, *, trained_on: bool) -> list[object]:
        """The cells of a target in the run's train rows."""
        column = f"{TRAIN_PREFIX}{target}"
        table = self.samples.table
        cells = table[column if trained_on and column in table else target]
        rows, _ = self.image_rows
        return cells.to_numpy()[rows].tolist()

    def pixels(self, spec: InputSpec) -> Pixels:
        """All images, prepared for an input: `[images, size, size, channels]`, memory-mapped where they fit."""
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
        """What decides the pixels that an input gives: its options, and what earlier versions did otherwise."""
        from ensembler.data.pixels import prepared_otherwise

        words = {"axes": "scaled one by one", "bits": "as the files say"}
        return {
            **spec.described,
            **{name: words[name] for name in prepared_otherwise(self.contents, spec)},
        }

    @property
    def image_weights(self) -> NDArray[np.float64]:
        """The sample weight of every image `[images]`, 0 where there is none."""
        return self.samples.table["weight"].fillna(0.0).to_numpy(np.float64)


def kept_choice(store: RunStore, what: str, name: str, made_for: str) -> dict[str, Any] | None:
    """What was once chosen by a measurement, such as whether a training is compiled.

    None = nothing yet. `made_for` is a fingerprint of what was measured: a choice made for
    something else is none.
    """
    choices = store.lock.get("choices")
    of_kind = choices.get(what) if isinstance(choices, dict) else None
    found = of_kind.get(name) if isinstance(of_kind, dict) else None
    return found if isinstance(found, dict) and found.get("for") == made_for else None


def keep_choice(
    store: RunStore, what: str, name: str, made_for: str, choice: Mapping[str, Any]
) -> dict[str, Any]:
    """Keep a choice in `recipe.lock.json` for resuming and for other processes.

    Return the one that counts. That is the first one kept: a process that measured at the same time
    may have chosen otherwise.
    """
    with claim(store.lock_path, wait=True):
        store = RunStore(store.folder)  # as it is now, not as it was when it was opened
        first = kept_choice(store, what, name, made_for)
        if first is not None:
            return first
        lock, kept = dict(store.lock), {**choice, "for": made_for}
        choices = lock.get("choices")
        known = dict(choices) if isinstance(choices, dict) else {}
        known[what] = {**known.get(what, {}), name: kept}
        write_json(store.recipe_lock_path, {**lock, "choices": known})
    return kept


Check = Callable[
    [Workspace], None
]  # raises where an existing run may not be opened with this recipe now


def open_workspace(
    recipe: Recipe, artifacts: Path, progress: Progress | None = None, *, check: Check | None = None
) -> Workspace:
    """Make the recipe's run, or open it when it is there; what killed processes left is cleaned up.

    `check` looks at a run that is there before anything of it is changed.

    Raises ChangedRecipeError when the run was made from other data, targets, groups or folds.
    """
    progress = progress or Progress()
    store = RunStore(artifacts / check_name("run", recipe.spec.name))
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
            _create(recipe, store, samples, artifacts, progress)
    clean_up(store.folder, store.lock_path)
    return Workspace(recipe, RunStore(store.folder), samples, artifacts, progress)


def _without_broken(
    samples: SampleSet, recipe: Recipe, artifacts: Path, progress: Progress
) -> SampleSet:
    from ensembler.data.pixels import drop_broken, find_broken

    broken = find_broken(
        samples.images,
        recipe.spec.input,
        cache_folder(artifacts),
        progress,
    )
    kept = drop_broken(samples, broken, recipe.spec.data.on_broken)
    if broken:
        progress.warn(
            f"{len(broken)} images cannot be read and are left out: "
            f"{', '.join(sorted(broken.values())[:5])}"
        )
    return kept


def _create(
    recipe: Recipe, store: RunStore, samples: SampleSet, artifacts: Path, progress: Progress
) -> None:
    split = split_samples(samples, recipe.spec.folds)
    for note in split.notes:
        progress.note(note)
    images = images_fingerprint(samples, artifacts)
    write_lock(recipe, store, samples, split.table, images, left_out=samples.left_out)
    write_samples(store.samples_path, split.table)  # last: now the run exists


def write_recipe(store: RunStore, resolved: Mapping[str, Any], old: Mapping[str, Any]) -> str:
    """Write the resolved recipe into the run, and return its sha256.

    What is there already is left as it is. `old` is the lock of the run: YAML of many members takes
    seconds to write, a checksum tells whether it has to be.
    """
    path, kept = store.recipe_path, old.get("recipe_sha256")
    if (
        old.get("recipe") == resolved
        and isinstance(kept, str)
        and path.is_file()
        and sha256_of(path) == kept
    ):
        return kept
    content = _yaml(resolved)
    write_bytes(path, content)
    return hashlib.sha256(content).hexdigest()


def resolved_yaml(spec: RecipeSpec) -> bytes:
    """The whole recipe with every default written out, as YAML that runs as it is."""
    return _yaml(dump_spec(spec))


def _yaml(content: Mapping[str, Any]) -> bytes:
    from ruamel.yaml import YAML

    yaml = YAML(typ="safe", pure=True)
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    buffer = io.BytesIO()
    yaml.dump(content, buffer)
    return buffer.getvalue()


def dump_spec(spec: RecipeSpec) -> dict[str, Any]:
    """The specs as plain values."""
    return spec.model_dump(mode="json", exclude_none=True, by_alias=True)


def write_lock(
    recipe: Recipe,
    store: RunStore,
    samples: SampleSet,
    table: pd.DataFrame,
    images: str,
    left_out: Iterable[str] = (),
) -> None:
    """Write the resolved recipe into the run, and with it versions, seeds, classes, fingerprints of table and images.

    `table` is the run's samples.csv, whose fold columns say how often the split is repeated.
    """
    jobs = member_jobs(recipe.spec.members, fold_repeats(table))
    old = store.lock if store.recipe_lock_path.is_file() else {}
    resolved = dump_spec(recipe.spec)
    content = {
        "format": 1,
        "versions": {"python": platform.python_version(), **_versions()},
        "seed": recipe.spec.seed,
        "classes": {target: list(names) for target, names in samples.classes.items()},
        "multi_label": {target: form.to_json() for target, form in samples.set_formats.items()},
        "composition": None if samples.composition is None else samples.composition.to_json(),
        "members": [job.name for job in jobs],
        "part_of": {part: job.name for job in jobs for part in job.parts},
        "left_out": sorted(left_out) or old.get("left_out", []),
        "data": data_fingerprint(samples),
        "images": images,
        "choices": old.get("choices", {}),
        "recipe": resolved,
        "recipe_sha256": write_recipe(store, resolved, old),
    }
    if content != old:
        write_json(store.recipe_lock_path, content)


def fold_repeats(table: pd.DataFrame) -> list[str]:
    """The fold columns of a repeated split beside the first."""
    return [column for column in table.columns if column.startswith("fold_r")]


def _versions() -> dict[str, str]:
    found = {}
    for package in ("ensembler-toolkit", *_PACKAGES):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def data_fingerprint(samples: SampleSet) -> str:
    """A digest of ids, labels, groups and weights in their order."""
    table = samples.table.drop(columns=["path"], errors="ignore")
    return hashlib.sha256(table.to_csv(index=False).encode()).hexdigest()


def images_fingerprint(samples: SampleSet, artifacts: Path) -> str:
    """A digest of what the images show, wherever they lie."""
    from ensembler.data.contents import read_contents

    checksums = read_contents(samples.images, cache_folder(artifacts)).checksum
    return hashlib.sha256("\n".join(checksums).encode()).hexdigest()


def _compare(
    recipe: Recipe,
    store: RunStore,
    samples: SampleSet,
    artifacts: Path,
    progress: Progress,
    check: Check | None,
) -> SampleSet:
    lock = store.lock
    old = lock.get("recipe")
    if isinstance(old, dict):
        _compare_keys(recipe.spec, old, store)
    _compare_classes(store, samples)
    left_out = lock.get("left_out")
    if isinstance(left_out, list) and left_out:
        samples = drop_samples(samples, [str(sample) for sample in left_out])
    _compare_rows(recipe, store, samples)
    images = images_fingerprint(samples, artifacts)
    _compare_fingerprints(store, {"data": data_fingerprint(samples), "images": images})
    if check is not None:
        check(Workspace(recipe, store, samples, artifacts, progress))
    write_lock(recipe, store, samples, store.samples.table, images)
    return samples


def _compare_keys(spec: RecipeSpec, old: Mapping[str, Any], store: RunStore) -> None:
    new = dump_spec(spec)
    changed = []
    for section in ("data", "folds"):
        before, after = old.get(section) or {}, new.get(section) or {}
        for key in sorted(before.keys() | after.keys()):
            if before.get(key) != after.get(key) and not (section == "data" and key in _LOCATIONS):
                changed.append(
                    f"{section}.{key} ({before.get(key)!r} there, {after.get(key)!r} now)"
                )
    if changed:
        raise ChangedRecipeError(
            f"run {store.name!r} was made with other data or folds: {', '.join(changed)}; "
            f"give this recipe another name (name: or --set name=...), or remove {store.folder}"
        )


def _compare_classes(store: RunStore, samples: SampleSet) -> None:
    """Raise ChangedRecipeError for classes that are others than locked, or the same in another order."""
    locked = store.lock.get("classes")
    for target, before in (locked if isinstance(locked, dict) else {}).items():
        now = list(samples.classes.get(target, ()))
        if before == now:
            continue
        reordered = sorted(map(str, before)) == sorted(now)
        why = (
            "; earlier versions ordered names of the same number, as 1.1 and 1.10 are, by chance"
            if reordered
            else ""
        )
        raise ChangedRecipeError(
            f"run {store.name!r} was made with other classes, or with their order another one: "
            f"{target} has "
            f"{_listed(before)} there, {_listed(now)} now{why}. What its networks predict depends "
            "on that order: give "
            f"this recipe another name (name: or --set name=...), or remove {store.folder}"
        )


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(map(str, names[:MOST_NAMED]))
    return f"{shown}, ... ({len(names)} in all)" if len(names) > MOST_NAMED else shown


def _compare_rows(recipe: Recipe, store: RunStore, samples: SampleSet) -> None:
    new = split_samples(samples, recipe.spec.folds).table.reset_index(drop=True)
    old = store.samples.table
    advice = f"give this recipe another name (name: or --set name=...), or remove {store.folder}"
    lost, added = set(old["id"]) - set(new["id"]), set(new["id"]) - set(old["id"])
    if lost or added:
        example = sorted(lost or added)[0]
        raise ChangedRecipeError(
            f"the data of run {store.name!r} have changed: {len(added)} samples are new and "
            f"{len(lost)} are gone, "
            f"such as {example!r}; {advice}"
        )
    for column in old.columns:
        if column not in new or not _same(old[column], new[column]):
            raise ChangedRecipeError(
                f"the data of run {store.name!r} have changed in {column!r}; {advice}"
            )


def _compare_fingerprints(store: RunStore, now: Mapping[str, str]) -> None:
    """Raise ChangedRecipeError for changes that samples.csv does not show: weights, labels to train on, images."""
    names = {"data": "weights or labels to train on", "images": "what its images show"}
    for key, digest in now.items():
        if store.lock.get(key, digest) != digest:
            raise ChangedRecipeError(
                f"the data of run {store.name!r} have changed in {names[key]}; give this recipe "
                "another name "
                f"(name: or --set name=...), or remove {store.folder}"
            )


def _same(old: pd.Series[Any], new: pd.Series[Any]) -> bool:
    return bool(
        (old.fillna("").astype(str).to_numpy() == new.fillna("").astype(str).to_numpy()).all()
    )


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
        Recipe(spec, recipe.path), store.folder.resolve().parent, progress, check=check
    )
