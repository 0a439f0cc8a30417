"""`epochs: auto`: a recipe that leaves the length of trainings to the plan."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from ensembler.files import fingerprint
from ensembler.recipe.spec import RecipeSpec
from ensembler.training.spec import WITHOUT_EPOCHS, EnsembleSpec, MemberSpec
from ensembler.training.specs.base import AUTO

TrainedSpec = MemberSpec | EnsembleSpec


def auto_entries(content: Mapping[str, Any]) -> frozenset[str]:
    """The members of a recipe's content that leave their epochs to the plan."""
    members = content.get("members")
    if not isinstance(members, Mapping):
        return frozenset()
    return frozenset(
        str(name)
        for name, member in members.items()
        if isinstance(member, Mapping) and member.get("epochs") == AUTO
    )


def with_epochs(spec: RecipeSpec, epochs: Mapping[str, int]) -> RecipeSpec:
    """The recipe with other epochs for some members; ValidationError where these cannot be."""
    members = dict(spec.members)
    for name, n in epochs.items():
        member = members[name]
        if not isinstance(member, WITHOUT_EPOCHS) and member.epochs != n:
            members[name] = of_epochs(member, n)
    return spec.model_copy(update={"members": members})


def of_epochs(member: TrainedSpec, n: int) -> TrainedSpec:
    """A member with so many epochs; ValidationError where it cannot have them."""
    options = member.model_dump(by_alias=True, exclude_unset=True) | {"epochs": n}
    return type(member).model_validate(options)


def nearest_epochs(member: TrainedSpec, wanted: int) -> int:
    """The most epochs, at most `wanted`, that the member's other options allow.

    Those that it has where there are none: snapshots, for instance, take a multiple of their
    cycles.
    """
    for n in range(wanted, 0, -1):
        try:
            of_epochs(member, n)
        except ValidationError:
            continue
        return n
    return member.epochs


def made_for(member: TrainedSpec) -> str:
    """A digest of everything that a member says beside its epochs."""
    exclude = {"epochs", "priority", *member.unused_later}
    return fingerprint(member.model_dump(mode="json", exclude=exclude))
