"""Epochs that a plan chose, kept in the run's lock from before a member's first fold on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from ensembler.predictions.store import RunStore
from ensembler.recipe.auto_epochs import made_for, with_epochs
from ensembler.recipe.load import Recipe
from ensembler.training.spec import WITHOUT_EPOCHS
from ensembler.workspace.lock import keep_choice, kept_choice

_KIND = "epochs"


def kept_epochs(recipe: Recipe, store: RunStore) -> dict[str, int]:
    """The epochs by member that were chosen for a run before; only of those that are `auto`."""
    found = {}
    for name in sorted(recipe.auto_epochs):
        member = recipe.spec.members[name]
        if isinstance(member, WITHOUT_EPOCHS):
            continue
        kept = kept_choice(store, _KIND, name, made_for(member))
        if kept is not None:
            found[name] = int(kept["epochs"])
    return found


def with_kept_epochs(recipe: Recipe, store: RunStore) -> Recipe:
    """The recipe with the epochs that were chosen for the run before."""
    kept = kept_epochs(recipe, store)
    return replace(recipe, spec=with_epochs(recipe.spec, kept)) if kept else recipe


def keep_epochs(
    recipe: Recipe, store: RunStore, chosen: Mapping[str, int], members: Iterable[str]
) -> Recipe:
    """Keep the epochs of `members` that are `auto`: those `chosen`, else those of the recipe.

    Return the recipe with what counts, which another process may have chosen first.
    """
    counts = {}
    for name in sorted(recipe.auto_epochs & set(members)):
        member = recipe.spec.members[name]
        if isinstance(member, WITHOUT_EPOCHS):
            continue
        epochs = {"epochs": chosen.get(name, member.epochs)}
        kept = keep_choice(store, _KIND, name, made_for(member), epochs)
        counts[name] = int(kept["epochs"])
    return replace(recipe, spec=with_epochs(recipe.spec, counts)) if counts else recipe
