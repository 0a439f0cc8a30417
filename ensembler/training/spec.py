"""What a recipe may say about a member: its networks and how they are trained, in timm's words.

A member's `method` says how it comes about: K-fold networks of our own loop (`kfold`, the default),
an ensemble that torchensemble trains in every fold, a soup of other members' weights, a head on
frozen features, or one on columns. Each kind has a file in `specs/`; this module is the door for
recipes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, Discriminator, Tag

from ensembler.data.spec import OwnInputSpec
from ensembler.training.specs.base import REQUIRES, TrainingSpec
from ensembler.training.specs.ensemble import BOOSTING, EnsembleMethod, EnsembleSpec
from ensembler.training.specs.fitted import FittedSpec
from ensembler.training.specs.kfold import AVERAGE, EMA_DECAY, MemberSpec
from ensembler.training.specs.probe import FeaturesSpec, ProbeSpec
from ensembler.training.specs.refit import RefitSpec
from ensembler.training.specs.soup import SoupSpec
from ensembler.training.specs.tabular import TabularSpec

__all__ = [
    "AVERAGE",
    "BOOSTING",
    "EMA_DECAY",
    "FITTED",
    "MEMBER_SPECS",
    "WITHOUT_EPOCHS",
    "AnyFittedSpec",
    "AnyMemberSpec",
    "EnsembleMethod",
    "EnsembleSpec",
    "FeaturesSpec",
    "FittedSpec",
    "MemberSpec",
    "ProbeSpec",
    "RefitSpec",
    "SoupSpec",
    "TabularSpec",
    "TrainingSpec",
    "any_has_option",
    "has_option",
    "is_effective",
    "spec_of",
    "with_own_input",
]


FITTED = ("probe", "tabular")  # methods of members that are fitted on tables of numbers
AnyFittedSpec = ProbeSpec | TabularSpec


def _method_of(value: Any) -> str:
    given = (
        value if isinstance(value, dict) else {"method": getattr(value, "method", "kfold")}
    )
    method = given.get("method", "kfold")
    return method if method in ("kfold", "soup", *FITTED) else "ensemble"


AnyMemberSpec = Annotated[
    Annotated[MemberSpec, Tag("kfold")]
    | Annotated[EnsembleSpec, Tag("ensemble")]
    | Annotated[SoupSpec, Tag("soup")]
    | Annotated[ProbeSpec, Tag("probe")]
    | Annotated[TabularSpec, Tag("tabular")],
    Discriminator(_method_of),
]
MEMBER_SPECS: dict[str, type[BaseModel]] = {
    "kfold": MemberSpec,
    "ensemble": EnsembleSpec,
    "soup": SoupSpec,
    "probe": ProbeSpec,
    "tabular": TabularSpec,
}
# members that no network is trained for
WITHOUT_EPOCHS = (SoupSpec, ProbeSpec, TabularSpec)


def spec_of(member: Any) -> type[BaseModel]:
    """The spec that a member's options in a recipe are checked by, judged by its `method`."""
    return MEMBER_SPECS[_method_of(member if isinstance(member, dict) else {})]


def is_effective(option: str, member: dict[str, Any]) -> bool:
    """Whether an option has an effect: tau, say, only with loss: balanced_softmax."""
    if option == "choose_by":
        return member.get("choose") == "best" or member.get("patience") is not None
    if option not in REQUIRES:
        return True
    other, wanted = REQUIRES[option]
    field = spec_of(member).model_fields.get(other)
    return bool(member.get(other, None if field is None else field.default) == wanted)


def has_option(spec: type[BaseModel], key: str) -> bool:
    """Whether a member checked by `spec` may have the option `key`."""
    return key in {field.alias or name for name, field in spec.model_fields.items()}


def any_has_option(key: str) -> bool:
    """Whether some member may have the option `key`."""
    return any(has_option(spec, key) for spec in MEMBER_SPECS.values())


def with_own_input(recorded: Mapping[str, Any]) -> dict[str, Any]:
    """Options from a member's record whose `input`, a record of all it saw, is the member's own."""
    options = dict(recorded)
    if not isinstance(options.get("input"), Mapping):
        return options
    own = OwnInputSpec.of_record(options["input"]).said
    if options.get("size") is not None:
        own.pop("size")
    return options | {"input": own}
