"""The user's own code in a recipe or a command.

One line names it, and it is imported before any of it is needed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ensembler.errors import RecipeError, RequestError
from ensembler.own_code import is_own, load_own, source_of
from ensembler.progress import Progress
from ensembler.recipe.load import Recipe
from ensembler.recipe.spec import RecipeSpec
from ensembler.training.spec import AnyMemberSpec, FittedSpec, SoupSpec


def code_named_by(spec: RecipeSpec) -> dict[str, str]:
    """Every `module:name` of a recipe, with what it is used for."""
    named: dict[str, str] = {}
    for member in spec.members.values():
        named |= _code_of_member(member)
    named |= dict.fromkeys(own_among(spec.input.step_names), "prepare step")
    views = dict.fromkeys(own_among(spec.views), "view")
    return named | views | spec.blend.code


def _code_of_member(member: AnyMemberSpec) -> dict[str, str]:
    from ensembler.networks.sources import is_own_backbone

    if isinstance(member, SoupSpec):
        return {}
    if isinstance(member, FittedSpec):
        return member.code
    backbone = {member.backbone: "backbone"} if is_own_backbone(member.backbone) else {}
    return {**backbone, **member.code}


def own_among(names: Iterable[object] | None) -> list[str]:
    """The `module:name` among names that a recipe or a command gives."""
    return [str(name) for name in names or () if is_own(name)]


def introduce_code(
    named: Mapping[str, str], progress: Progress, folders: Sequence[Path]
) -> None:
    """Say which code of the user's own is used and where it lies, then import it.

    RecipeError lists what cannot be. A module that is not installed is looked for in `folders`.
    """
    if not named:
        return
    found = {place: source_of(place, folders) for place in named}
    shown = [f"{place} ({path})" if path else place for place, path in found.items()]
    progress.note(f"uses code of yours: {', '.join(shown)}")
    problems = []
    for place, kind in named.items():
        try:
            load_own(place, kind, folders)
        except RequestError as error:
            problems.append(str(error))
    if problems:
        raise RecipeError(problems)


def introduce_code_of(
    recipe: Recipe, progress: Progress, metrics: Iterable[str] | None = None
) -> None:
    """The same for a recipe that the user gave, and `metrics` that a command named beside it.

    Modules may lie beside the recipe, or in the current folder.
    """
    named = code_named_by(recipe.spec) | dict.fromkeys(own_among(metrics), "metric")
    introduce_code(named, progress, [recipe.path.resolve().parent, Path.cwd()])
