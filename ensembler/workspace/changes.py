"""Whether a run was made from what its recipe says now.

Each difference that matters is one clear error.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from ensembler.data.faults import MOST_NAMED
from ensembler.data.folds import split_samples
from ensembler.data.samples import SampleSet
from ensembler.errors import ChangedRecipeError
from ensembler.predictions.store import RunStore
from ensembler.recipe.spec import RecipeSpec
from ensembler.workspace.fingerprints import data_fingerprint, former_fingerprint
from ensembler.workspace.lock import dump_spec

# Where the data are may change; what they are may not.
LOCATIONS = {
    # columns count in the members that are fitted on them
    "data": {"source", "root", "test", "allow_outside", "corrections", "features"},
    "folds": {"file"},
}


def check_options(spec: RecipeSpec, store: RunStore) -> None:
    """Raise ChangedRecipeError for options of data or folds that are not those of the run."""
    if not store.lock.recipe:
        return
    new, changed = dump_spec(spec), []
    for section in ("data", "folds"):
        before, after = store.lock.section(section), new.get(section) or {}
        for key in sorted((before.keys() | after.keys()) - LOCATIONS[section]):
            old, now = before.get(key), after.get(key)
            if old != now:
                changed.append(f"{section}.{key} ({old!r} there, {now!r} now)")
    if changed:
        raise ChangedRecipeError(
            f"run {store.name!r} was made with other data or folds: {', '.join(changed)}; "
            f"{_advice(store)}"
        )


def check_classes(store: RunStore, samples: SampleSet) -> None:
    """Raise ChangedRecipeError when classes or their order differ from what the run has locked."""
    for target, before in store.lock.classes.items():
        now = tuple(samples.classes.get(target, ()))
        if before == now:
            continue
        why = ""
        if sorted(before) == sorted(now):
            why = (
                "; earlier versions ordered names of the same number, "
                "as 1.1 and 1.10 are, by chance"
            )
        raise ChangedRecipeError(
            f"run {store.name!r} was made with other classes, or with their order another one: "
            f"{target} has {_listed(before)} there, {_listed(now)} now{why}. What its networks "
            f"predict depends on that order: {_advice(store)}"
        )


def check_rows(spec: RecipeSpec, store: RunStore, samples: SampleSet) -> None:
    """Raise ChangedRecipeError if samples, labels, groups or folds differ from samples.csv.

    Of data and a samples.csv that are those of the last time, split by the same options (see
    `check_options`), this is known: nothing is split again. Folds that are given are compared.
    """
    if not spec.folds.are_given and _is_known(store, samples):
        return
    new = split_samples(samples, spec.folds).table.reset_index(drop=True)
    old = store.samples.table
    lost, added = set(old["id"]) - set(new["id"]), set(new["id"]) - set(old["id"])
    if lost or added:
        example = sorted(lost or added)[0]
        raise ChangedRecipeError(
            f"the data of run {store.name!r} have changed: {len(added)} samples are new and "
            f"{len(lost)} are gone, such as {example!r}; {_advice(store)}"
        )
    for column in old.columns:
        if column not in new or not _same(old[column], new[column]):
            raise ChangedRecipeError(
                f"the data of run {store.name!r} have changed in {column!r}; {_advice(store)}"
            )


def _is_known(store: RunStore, samples: SampleSet) -> bool:
    lock = store.lock
    if not lock.recipe or lock.samples != store.samples_sha256:
        return False
    return lock.data == data_fingerprint(samples)


def check_fingerprints(store: RunStore, samples: SampleSet, images: str) -> None:
    """Raise ChangedRecipeError for changes that samples.csv does not show.

    These are sample weights, labels to train on, and the images.
    """
    data = (data_fingerprint(samples), former_fingerprint(samples))
    comparisons = {
        "weights or labels to train on": (store.lock.data, data),
        "what its images show": (store.lock.images, (images,)),
    }
    for what, (before, now) in comparisons.items():
        if before is not None and before not in now:
            raise ChangedRecipeError(
                f"the data of run {store.name!r} have changed in {what}; {_advice(store)}"
            )


def _advice(store: RunStore) -> str:
    return (
        f"give this recipe another name (name: or --set name=...), or remove {store.folder}"
    )


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:MOST_NAMED])
    return f"{shown}, ... ({len(names)} in all)" if len(names) > MOST_NAMED else shown


def _same(old: pd.Series[Any], new: pd.Series[Any]) -> bool:
    before = old.fillna("").astype(str).to_numpy()
    now = new.fillna("").astype(str).to_numpy()
    return bool((before == now).all())
