"""Members that no recipe names: students and refits, as their records say what they are."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import ValidationError

from ensembler.errors import RequestError, StoreError
from ensembler.own_code import is_own
from ensembler.predictions.members import Member
from ensembler.recipe.members import PlannedMember
from ensembler.recipe.own_code import code_named_by
from ensembler.recipe.spec import RecipeSpec
from ensembler.training.spec import MemberSpec, with_own_input
from ensembler.workspace.workspace import Workspace

# options that say where a network began, or how it is trained and not what it is
_UNSAID = ("augment", "checkpoint", "pretrained", "refit")


def select_recorded(
    workspace: Workspace, names: Sequence[str]
) -> tuple[PlannedMember, ...]:
    """The members named: those of the recipe as `Workspace.select` has them, and others."""
    store = workspace.store
    strange = [
        name
        for name in names
        if name in store.complete_members
        and not any(member.is_called([name]) for member in workspace.members)
    ]
    known = [name for name in names if name not in strange]
    of_recipe = workspace.select(known) if known else ()
    recorded = (as_planned(store.member(name), workspace.spec) for name in strange)
    return (*of_recipe, *recorded)


def as_planned(member: Member, recipe: RecipeSpec) -> PlannedMember:
    """A member of our own loop as one that a recipe might have named."""
    record, spec = member.record, recorded_spec(member, recipe)
    variant = record.weights or spec.primary
    return PlannedMember(
        member.name, spec, record.fold_column, member.name, member.name, variant, spec
    )


def recorded_spec(member: Member, recipe: RecipeSpec) -> MemberSpec:
    """What the networks of a member are like, by its record.

    RequestError for a network by code that the recipe does not name: it may be somebody else's.
    """
    options = {
        key: value
        for key, value in member.record.options.items()
        if key in MemberSpec.model_fields and key not in _UNSAID
    }
    try:
        spec = MemberSpec.model_validate(with_own_input(options))
    except ValidationError as error:
        raise StoreError(
            f"member {member.name!r} is not in the recipe, and its member.json does not say what "
            f"its networks are ({error.errors()[0]['msg']})"
        ) from error
    if is_own(spec.backbone) and spec.backbone not in code_named_by(recipe):
        raise RequestError(
            f"member {member.name!r} has a backbone, {spec.backbone!r}, that the recipe does not "
            "name, and what a record names is not run; name it in the recipe"
        )
    return spec
