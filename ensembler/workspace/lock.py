"""What a run keeps of its recipe.

The resolved recipe itself, `recipe.lock.json`, and the measured choices in it.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from ensembler.data.samples import SampleSet
from ensembler.files import claim, sha256_of, write_bytes
from ensembler.machine.environment import versions
from ensembler.predictions.lock import KeptChoice, RunLock
from ensembler.predictions.records import write_record
from ensembler.predictions.samples import fold_repeats, samples_csv
from ensembler.predictions.store import RunStore
from ensembler.recipe.load import Recipe
from ensembler.recipe.members import PlannedMember, planned_members, refit_in_pool
from ensembler.recipe.spec import RecipeSpec
from ensembler.training.specs.base import AUTO
from ensembler.workspace.fingerprints import data_fingerprint


def kept_choice(
    store: RunStore, kind: str, name: str, made_for: str
) -> dict[str, Any] | None:
    """What was once chosen by a measurement, such as how a training takes its steps.

    None = nothing yet. `made_for` is a fingerprint of what was measured: a choice made for
    something else is none.
    """
    found = store.lock.choice(kind, name, made_for)
    return None if found is None else found.chosen


def keep_choice(
    store: RunStore, kind: str, name: str, made_for: str, choice: Mapping[str, Any]
) -> dict[str, Any]:
    """Keep a choice in `recipe.lock.json` for resuming and for other processes.

    Return the one that counts. That is the first one kept: a process that measured at the same time
    may have chosen otherwise.
    """
    with claim(store.lock_path, wait=True):
        store = RunStore(store.folder)  # as it is now, not as it was when it was opened
        first = kept_choice(store, kind, name, made_for)
        if first is not None:
            return first
        kept = KeptChoice.model_validate({**choice, "for": made_for})
        write_record(store.recipe_lock_path, store.lock.with_choice(kind, name, kept))
    return kept.chosen


def keep_smallest(
    store: RunStore, kind: str, name: str, made_for: str, number: int
) -> None:
    """Keep a `number` in `recipe.lock.json` as a choice, unless a smaller one is there."""
    with claim(store.lock_path, wait=True):
        store = RunStore(store.folder)  # as it is now, not as it was when it was opened
        before = kept_choice(store, kind, name, made_for)
        if before is not None and int(before[kind]) <= number:
            return
        kept = KeptChoice.model_validate({kind: number, "for": made_for})
        write_record(store.recipe_lock_path, store.lock.with_choice(kind, name, kept))


def write_lock(
    recipe: Recipe,
    store: RunStore,
    samples: SampleSet,
    table: pd.DataFrame,
    images: str,
    left_out: Iterable[str] = (),
) -> None:
    """Write the resolved recipe and its lock into the run.

    The lock holds versions, seeds, classes, and fingerprints of the table and the images. `table`
    is the run's samples.csv, whose fold columns say how often the split is repeated.
    """
    old = store.lock
    members = planned_members(recipe.spec.members, fold_repeats(table))
    resolved = dump_recipe(recipe)
    new = old.model_copy(
        update={
            "format": 1,
            "versions": versions(),
            "seed": recipe.spec.seed,
            "classes": {target: tuple(names) for target, names in samples.classes.items()},
            "multi_label": dict(samples.set_formats),
            "composition": samples.composition,
            "members": tuple(member.name for member in members),
            "part_of": _parts(members),
            "left_out": tuple(sorted(left_out)) or old.left_out,
            "data": data_fingerprint(samples),
            "images": images,
            "samples": _split_digest(store, table),
            "choices": old.choices,
            "recipe": resolved,
            "recipe_sha256": write_recipe(store, resolved, old),
        }
    )
    if not store.recipe_lock_path.exists():
        new = new.model_copy(update={"blends": {}})
    if new != old:
        write_record(store.recipe_lock_path, new)


def _split_digest(store: RunStore, table: pd.DataFrame) -> str:
    """The sha256 of the run's samples.csv, or of what it will be."""
    if store.samples_path.is_file():
        return store.samples_sha256
    return hashlib.sha256(samples_csv(table)).hexdigest()


def _parts(members: Sequence[PlannedMember]) -> dict[str, str]:
    """Which member stands for another in blends: a mean for its parts, a refit for its folds."""
    means = {part: member.name for member in members for part in member.parts}
    refits = {member.name: refit_in_pool(member) for member in members}
    return means | {name: refit for name, refit in refits.items() if refit is not None}


def write_recipe(store: RunStore, resolved: Mapping[str, Any], old: RunLock) -> str:
    """Write the resolved recipe into the run, and return its sha256.

    What is there already is left as it is. `old` is the lock of the run: YAML of many members takes
    seconds to write, a checksum tells whether it has to be.
    """
    path, kept = store.recipe_path, old.recipe_sha256
    is_the_same = old.recipe == resolved and kept is not None
    if is_the_same and path.is_file() and sha256_of(path) == kept:
        return str(kept)
    content = yaml_of(resolved)
    write_bytes(path, content)
    return hashlib.sha256(content).hexdigest()


def resolved_yaml(spec: RecipeSpec) -> bytes:
    """The whole recipe with every default written out, as YAML that runs as it is."""
    return yaml_of(dump_spec(spec))


def yaml_of(content: Mapping[str, Any]) -> bytes:
    """Plain content as the YAML of a recipe, its keys in their order."""
    from ruamel.yaml import YAML

    yaml = YAML(typ="safe", pure=True)
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    buffer = io.BytesIO()
    yaml.dump(content, buffer)
    return buffer.getvalue()


def dump_recipe(recipe: Recipe) -> dict[str, Any]:
    """A recipe as plain values, in which epochs that are left to the plan still are."""
    dumped = dump_spec(recipe.spec)
    for name in recipe.auto_epochs:
        dumped["members"][name]["epochs"] = AUTO
    return dumped


def dump_spec(spec: RecipeSpec) -> dict[str, Any]:
    """The specs as plain values."""
    return spec.model_dump(mode="json", exclude_none=True, by_alias=True)
