"""Variants of a member: a checked recipe whose members are it with some options changed.

Whoever compares variants says which options each has (`Setting`); what becomes of them in a recipe,
and what is wrong with them, is the same for a handful of values and for a search.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from ensembler.errors import RequestError, nearest
from ensembler.recipe.document import Place
from ensembler.recipe.load import Recipe
from ensembler.training.spec import MEMBER_SPECS, has_option, is_effective, spec_of

_UNFIT = re.compile(r"[^A-Za-z0-9_.@+-]+")
_LONGEST_NAME = 80
# What a recipe says of all members and a member may say of itself, by where the member has it.
_SHORT = {"input.size": "size", "input.prepare": "prepare"}
_TARGETS = "data.targets."
# Options with which variants would not be comparable, and what to do instead.
_INCOMPARABLE = {
    "seeds": "--seeds N trains every variant N times",
    "target": "give it to the member in the recipe",
    "also": "give it to the member in the recipe",
}


@dataclass(frozen=True)
class Setting:
    """One option of a variant, dotted where it lies in another; `text` is the value as given.

    `origin` is what was asked for, as errors name it.
    """

    option: str
    value: Any
    text: str
    origin: str

    @property
    def keys(self) -> list[str]:
        """Where the option lies among the member's."""
        return own_option(self.option).split(".")

    @property
    def top(self) -> str:
        """The member's option that it is, or lies in."""
        return self.keys[0]


@dataclass(frozen=True)
class CommonOptions:
    """What all variants have in common, where it is not the recipe's."""

    folds: int | None = None
    epochs: int | None = None
    seeds: int = 1


Settings = Sequence[Setting]


def own_option(option: str) -> str:
    """The member's own option for one that the recipe has for all: input.size is its size.

    RequestError for what all members of a run have in common.
    """
    if not option.startswith("data."):
        return _SHORT.get(option, option)
    target, _, rest = option.removeprefix(_TARGETS).partition(".")
    if option.startswith(_TARGETS) and rest.partition(".")[0] == "train_bins":
        top, *below = rest.split(".")
        return ".".join([top, target, *below])
    raise RequestError(
        f"{option}: variants are compared on the same rows and labels; of the targets only "
        "train_bins may differ, such as data.targets.age.train_bins"
    )


def check_option(option: str, own: Mapping[str, Any], where: str) -> None:
    """Raise RequestError for an option that cannot be varied in a member of options `own`.

    `where` it was asked for is what the error begins with.
    """
    place = own_option(option)
    top = place.partition(".")[0]
    known = sorted(
        set(chain.from_iterable(_keys_of(spec) for spec in MEMBER_SPECS.values()))
    )
    if top not in known:
        raise RequestError(
            f"{where} is not a member option; {nearest(top, known, most=60)}"
        )
    if top in _INCOMPARABLE:
        raise RequestError(
            f"{where} would compare other things with each other; {_INCOMPARABLE[top]}"
        )
    if "." in place and not isinstance(own.get(top, {}), dict):
        raise RequestError(
            f"{where}: {top} is {own[top]!r} in the recipe, which has no parts"
        )


def _keys_of(spec: Any) -> Iterable[str]:
    return (field.alias or name for name, field in spec.model_fields.items())


def member_options(recipe: Recipe, member: str) -> dict[str, Any]:
    """The options that the recipe gives a member, as plain values."""
    return recipe.spec.members[member].model_dump(
        mode="json", by_alias=True, exclude_unset=True
    )


def variant_recipe(
    recipe: Recipe,
    member: str,
    variants: Mapping[str, Settings],
    name: str,
    common: CommonOptions,
) -> Recipe:
    """The checked recipe called `name` whose members are variants of `member`, by their names.

    What is wrong is said in the words of the settings.
    """
    own = member_options(recipe, member)
    content = _content_without_members(recipe, name, common)
    origins: dict[Place, str] = {("folds", "count"): f"--folds {common.folds}"}
    for variant, settings in variants.items():
        place: Place = ("members", variant)
        origins[place] = ", ".join(setting.origin for setting in settings)
        origins |= {(*place, *setting.keys): setting.origin for setting in settings}
        content["members"][variant] = _variant(own, settings, common)
    return Recipe.check(content, recipe.path, origins)


def named_after_settings(variants: Iterable[Settings]) -> dict[str, Settings]:
    """Variants by names that say their settings."""
    named: dict[str, Settings] = {}
    for settings in variants:
        named[_name(settings, taken=named)] = settings
    return named


def _content_without_members(
    recipe: Recipe, name: str, common: CommonOptions
) -> dict[str, Any]:
    content = recipe.spec.model_dump(mode="json", by_alias=True, exclude_unset=True)
    content.pop("tune", None)
    blend = content.get("blend", {})
    # What the blend says of members that are no more.
    dropped = {"members", "weights", "name"}
    if blend.get("method") == "weights":
        dropped.add("method")
    blend = {key: value for key, value in blend.items() if key not in dropped}
    content |= {"name": name, "members": {}, "blend": blend}
    if common.folds is not None:
        folds = recipe.spec.folds
        if folds.are_given or folds.scheme == "single":
            raise RequestError(
                f"--folds {common.folds}: the recipe's folds are of "
                f"{f'a file, {folds.file}' if folds.file else f'scheme: {folds.scheme}'}"
            )
        content["folds"] = {**content.get("folds", {}), "count": common.folds}
    return content


def _variant(
    own: Mapping[str, Any], settings: Settings, common: CommonOptions
) -> dict[str, Any]:
    """The options of a variant; those of the member that count no more are left out."""
    made = dict(own)
    if common.seeds != 1:
        made["seeds"] = common.seeds
    if common.epochs is not None:
        made["epochs"] = common.epochs
        if "freeze_epochs" in own:
            made["freeze_epochs"] = min(own["freeze_epochs"], common.epochs)
    for setting in settings:
        made = _with(made, setting.keys, setting.value)
    made = _without_shadowed(made, settings)
    varied = {setting.top for setting in settings}
    idle = {key for key in own if key not in varied and not is_effective(key, made)}
    spec = spec_of(made)
    # An option of the member that another method does not have is left out; one that was asked for
    # is an error of the recipe.
    return {
        key: value
        for key, value in made.items()
        if key not in idle and (key not in own or has_option(spec, key))
    }


def _without_shadowed(made: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    """The options without those of the member's `input` that a setting says in short."""
    said = {setting.top for setting in settings} & set(_SHORT.values())
    inside = made.get("input")
    if not said or not isinstance(inside, Mapping):
        return dict(made)
    return {**made, "input": {k: v for k, v in inside.items() if k not in said}}


def _with(options: Mapping[str, Any], keys: Sequence[str], value: Any) -> dict[str, Any]:
    """The options with one value set, below mappings where the key is dotted; None takes it out."""
    key, *below = keys
    if below:
        inner = options.get(key)
        value = _with(inner if isinstance(inner, Mapping) else {}, below, value)
    rest = {k: v for k, v in options.items() if k != key}
    return rest if value is None else {**rest, key: value}


def _name(settings: Settings, taken: Mapping[str, Any]) -> str:
    """A name that a folder can have, different from those taken."""
    wanted = "+".join(f"{setting.option}-{setting.text}" for setting in settings)
    name = _UNFIT.sub("_", wanted).strip("_.")[:_LONGEST_NAME]
    return name if name not in taken else f"{name}@{len(taken) + 1}"
