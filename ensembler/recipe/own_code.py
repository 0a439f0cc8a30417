"""Code of the user's own in a recipe or a command: said in one line, and imported before any of it is needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ensembler.errors import RecipeError, RequestError
from ensembler.own_code import is_own, load_own, own_values, source_of
from ensembler.progress import Progress
from ensembler.recipe.load import Recipe
from ensembler.recipe.spec import RecipeSpec
from ensembler.training.spec import SoupSpec


def code_named_by(spec: RecipeSpec) -> dict[str, str]:
    """Every `module:name` of a recipe, with what it is used for."""
    from ensembler.networks.sources import is_own_backbone

    named: dict[str, str] = {}
    for member in spec.members.values():
        if not isinstance(member, SoupSpec) and is_own_backbone(member.backbone):
            named[member.backbone] = "backbone"
    for step in spec.input.prepare:
        name = step if isinstance(step, str) else next(iter(step), "")
        if is_own(name):
            named[name] = "prepare step"
    return named | dict.fromkeys(own_values(spec.blend.options), "estimator")


def introduce_code(named: Mapping[str, str], progress: Progress, folders: Sequence[Path]) -> None:
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


def introduce_code_of(recipe: Recipe, progress: Progress) -> None:
    """The same for a recipe that the user gave: its modules may lie beside it, or in the current folder."""
    introduce_code(code_named_by(recipe.spec), progress, [recipe.path.resolve().parent, Path.cwd()])
