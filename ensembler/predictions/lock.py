"""What a run was made with: `recipe.lock.json`, written once and completed at every start."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, ValidationError

from ensembler.errors import StoreError
from ensembler.files import read_json
from ensembler.predictions.records import Record
from ensembler.targets.composition import Composition
from ensembler.targets.label_sets import SetFormat

LOCK_RECORD = "recipe.lock.json"


def _names(value: object) -> object:
    """Names that only give an order: what is no list of them gives none."""
    return tuple(str(name) for name in value) if isinstance(value, (list, tuple)) else ()


def _names_by_name(value: object) -> object:
    """As `_names`, for a mapping of names to names."""
    if not isinstance(value, Mapping):
        return {}
    return {str(name): str(other) for name, other in value.items()}


class KeptChoice(Record):
    """What was chosen by a measurement for something of one fingerprint.

    `for_` is "for" in the file.
    """

    model_config = ConfigDict(populate_by_name=True)

    for_: str = Field(alias="for")

    @property
    def chosen(self) -> dict[str, Any]:
        """What was chosen, in the words of whoever measured."""
        return dict(self.model_extra or {})


class RunLock(Record):
    """What `recipe.lock.json` says; other keys are kept and ignored.

    Nothing is said of a run that was imported or written by another tool but its classes, perhaps.
    `part_of` names the member that a member is a part of, `left_out` the samples whose images
    cannot be read, `data` and `images` are fingerprints, `samples` is the sha256 of samples.csv as
    it was split from these data, `choices` are what was chosen by a measurement: by kind ("step",
    "engine") and name. `blends` has the fingerprints of the blends that the recipe made, `students`
    names members that learned from a blend, which no blend takes unless it is told to, `recipe`
    holds the resolved recipe.
    """

    model_config = ConfigDict(coerce_numbers_to_str=True)

    format: Literal[1] = 1
    versions: dict[str, str] = Field(default_factory=dict)
    seed: int | None = None
    classes: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    multi_label: dict[str, SetFormat] | None = None
    composition: Composition | None = None
    members: Annotated[tuple[str, ...], BeforeValidator(_names)] = ()
    part_of: Annotated[dict[str, str], BeforeValidator(_names_by_name)] = Field(
        default_factory=dict
    )
    left_out: tuple[str, ...] = ()
    data: str | None = None
    images: str | None = None
    samples: str | None = None
    choices: dict[str, dict[str, KeptChoice]] = Field(default_factory=dict)
    blends: dict[str, str] = Field(default_factory=dict)
    students: Annotated[tuple[str, ...], BeforeValidator(_names)] = ()
    recipe: dict[str, Any] = Field(default_factory=dict)
    recipe_sha256: str | None = None

    def section(self, name: str) -> dict[str, Any]:
        """One section of the resolved recipe.

        {} when the recipe does not say it, or there is none.
        """
        return dict(self.recipe.get(name) or {})

    def choice(self, kind: str, name: str, made_for: str) -> KeptChoice | None:
        """What was chosen for something of this fingerprint.

        A choice made for something else is none.
        """
        found = self.choices.get(kind, {}).get(name)
        return found if found is not None and found.for_ == made_for else None

    def with_choice(self, kind: str, name: str, choice: KeptChoice) -> RunLock:
        """The lock with one more choice."""
        of_kind = {**self.choices.get(kind, {}), name: choice}
        return self.model_copy(update={"choices": {**self.choices, kind: of_kind}})


def read_lock(path: Path) -> RunLock:
    """Read a run's lock; one that says nothing when there is none."""
    if not path.exists():
        return RunLock()
    content = read_json(path)
    try:
        return RunLock.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise StoreError(
            f"{path}: {first['loc'][0]} is not what `ens` writes ({where}: "
            f"{first['msg'].lower()}); it was altered"
        ) from error
