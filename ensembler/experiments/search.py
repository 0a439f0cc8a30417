"""What a recipe searches for: its trials as recipes of their own, checked before the first one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from ensembler.errors import RequestError
from ensembler.experiments.space import Params, Space, option_at
from ensembler.experiments.variants import (
    CommonOptions,
    Settings,
    check_option,
    member_options,
    variant_recipe,
)
from ensembler.files import fingerprint
from ensembler.recipe.load import Recipe
from ensembler.recipe.spec import RecipeSpec
from ensembler.recipe.tune import BLEND_OBJECTIVE, TuneSpec
from ensembler.training.spec import AnyFittedSpec, EnsembleSpec, MemberSpec, SoupSpec
from ensembler.workspace.changes import LOCATIONS

_COMMON = CommonOptions()


@dataclass(frozen=True)
class Search:
    """A search for options of one member of a recipe."""

    recipe: Recipe
    tune: TuneSpec
    member: str

    @classmethod
    def of(cls, recipe: Recipe) -> Search:
        """The search that a recipe asks for; RequestError when it asks for none."""
        tune = recipe.spec.tune
        if tune is None:
            raise RequestError(
                f"{recipe.path.name} has no tune: section; it says what varies, such as "
                "tune: {space: {lr: {float: [1e-4, 1e-2], log: true}}}"
            )
        if recipe.spec.folds.scheme == "repeated":
            raise RequestError(
                "ens tune compares trials on fold 0, and folds.scheme: repeated has several; "
                "another scheme does"
            )
        entries = [
            name
            for name, spec in recipe.spec.members.items()
            if not isinstance(spec, SoupSpec)
        ]
        return cls(recipe, tune, tune.member or entries[0])

    @property
    def base(self) -> MemberSpec | EnsembleSpec | AnyFittedSpec:
        """The member that varies, as it is in the recipe."""
        spec = self.recipe.spec.members[self.member]
        assert not isinstance(spec, SoupSpec)
        return spec

    @cached_property
    def space(self) -> Space:
        """Its search space."""
        options = self.base.model_dump(mode="json", by_alias=True)
        return Space(self.tune, self.member, options)

    @cached_property
    def judged_by(self) -> str:
        """A digest of what decides a trial's value beside its values of the space."""
        spec = self.recipe.spec
        varied = {option_at(key, self.member).partition(".")[0] for key in self.tune.space}
        own = self.base.model_dump(mode="json", by_alias=True)
        recipe = spec.model_dump(
            mode="json", include={"seed", "data", "folds", "input", "augment", "views"}
        )
        # where the data are may change, what they are may not
        for section, keys in LOCATIONS.items():
            kept = recipe[section].items()
            recipe[section] = {key: value for key, value in kept if key not in keys}
        objective = [self.tune.objective]
        if self.tune.objective == BLEND_OBJECTIVE:
            objective.append(spec.blend.metric)
        content = {
            "member": {key: value for key, value in own.items() if key not in varied},
            "recipe": recipe,
            "objective": objective,
            "folds": self.tune.folds,
        }
        return fingerprint(content)[:16]

    @property
    def study_name(self) -> str:
        """The name of its study: the member, and a digest of what makes trials comparable."""
        digest = fingerprint([self.space.digest, self.judged_by])
        return f"{self.member}-{digest[:8]}"

    @property
    def target(self) -> str:
        """The target that trials are scored on: the first that the member predicts."""
        label = self.recipe.spec.data.label_names[0]
        return next(iter(self.base.targets), label)

    def check(self) -> Recipe:
        """The recipe of all trials at the corners of the space.

        RequestError or RecipeError for a key that is no option of the member, and for values that
        it cannot take; each in the words of the space.
        """
        own = member_options(self.recipe, self.member)
        for key in self.tune.space:
            check_option(option_at(key, self.member), own, f"tune.space.{key}")
        self._check_options_differ()
        corners = [*self.space.corners()]
        variants = {f"trial-{i}": self.space.settings(p) for i, p in enumerate(corners)}
        return variant_recipe(
            self.recipe, self.member, variants, self.recipe.spec.name, _COMMON
        )

    def _check_options_differ(self) -> None:
        """Raise RequestError when two keys of the space are one option of the member."""
        seen: dict[str, str] = {}
        for key in self.tune.space:
            option = option_at(key, self.member)
            if option in seen:
                raise RequestError(
                    f"tune.space.{key} and tune.space.{seen[option]} are the same option"
                )
            seen[option] = key

    def recipe_of(
        self, trials: Mapping[str, Params], *, is_watched: bool = False
    ) -> Recipe:
        """The recipe whose members are trials, by their names.

        `is_watched` has their epochs validated at the end of each quarter of a fold, as pruning
        needs it.
        """
        variants: dict[str, Settings] = {
            name: self.space.settings(params) for name, params in trials.items()
        }
        made = variant_recipe(
            self.recipe, self.member, variants, self.recipe.spec.name, _COMMON
        )
        return _watched(made) if is_watched else made

    def best_recipe(self, trials: Mapping[str, Params]) -> dict[str, Any]:
        """Plain content of the recipe of these trials and of the other members."""
        name = f"{self.recipe.spec.name}-best"
        variants = {trial: self.space.settings(params) for trial, params in trials.items()}
        made = variant_recipe(self.recipe, self.member, variants, name, _COMMON)
        content = _plain(made.spec)
        content["members"] |= self._other_members()
        return content

    def _other_members(self) -> dict[str, Any]:
        """The recipe's members beside the one that varies, as plain values.

        A soup of its weights has lost an ingredient.
        """
        others = _plain(self.recipe.spec)["members"]
        for name in self.recipe.auto_epochs:
            others[name]["epochs"] = "auto"
        return {
            name: options
            for name, options in others.items()
            if name != self.member and self.member not in options.get("of", ())
        }


def _plain(spec: RecipeSpec) -> dict[str, Any]:
    return spec.model_dump(mode="json", by_alias=True, exclude_unset=True)


def _watched(recipe: Recipe) -> Recipe:
    """The recipe whose members are validated often enough to be pruned within a fold."""
    members = {}
    for name, spec in recipe.spec.members.items():
        every = max(1, getattr(spec, "epochs", 1) // 4)
        is_ours = getattr(spec, "val_interval", 0) is None and not getattr(
            spec, "chooses", True
        )
        members[name] = spec.model_copy(update={"val_interval": every}) if is_ours else spec
    return replace(recipe, spec=recipe.spec.model_copy(update={"members": members}))
