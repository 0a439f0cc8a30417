"""Which members a recipe makes: its entries, with repeats, seeds, snapshots and ensembles.

cnn                        one training, one member
cnn: {seeds: 2}            two trainings: cnn-s1, cnn-s2
cnn: {also: [ema]}         one training, two members: cnn, cnn-ema
cnn: {snapshots: cyclic}   one training, a member for each cycle: cnn-c1, cnn-c2, cnn-c3
probe: {method: probe}     a head on frozen features, one member
bag: {method: bagging}     one training, a member for each estimator: bag-e1, ..., and bag,
                           their mean
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ensembler.errors import RequestError, UnknownNameError
from ensembler.training.spec import (
    AnyFittedSpec,
    EnsembleSpec,
    FittedSpec,
    MemberSpec,
    SoupSpec,
    TabularSpec,
    TrainingSpec,
)

TrainedSpec = MemberSpec | EnsembleSpec | SoupSpec | AnyFittedSpec


@dataclass(frozen=True)
class PlannedMember:
    """One member to make.

    `entry` is its key in the recipe, `training` names the training that it comes from together with
    others, `variant` which of that training's networks it is. A member with `parts` has no
    networks: it is the mean of those members. `base` says what its networks are like (for a soup
    that of its first ingredient, for a probe the frozen one, '' being the backbone of none);
    `ingredients` are a soup's, or the members whose
    predictions a tabular member is given.
    """

    name: str
    spec: TrainedSpec
    fold_column: str
    entry: str
    training: str
    variant: str
    base: TrainingSpec
    nth_seed: int = 0
    parts: tuple[str, ...] = ()
    ingredients: tuple[str, ...] = ()
    in_pool: bool = True

    @property
    def sees_images(self) -> bool:
        """Whether a network of it looks at images."""
        return not isinstance(self.spec, FittedSpec) or self.spec.sees_images

    def is_called(self, names: Sequence[str]) -> bool:
        """Whether one of `names` is the member's own, its training's or its entry's."""
        return bool({self.name, self.training, self.entry} & set(names))


def refit_name(name: str) -> str:
    """What the refit of a member is called."""
    return f"{name}-refit"


def refit_in_pool(member: PlannedMember) -> str | None:
    """The refit that stands for a member in blends; None where the member itself does."""
    asked = member.spec.refit if isinstance(member.spec, MemberSpec) else None
    if asked is None or asked.predict == "folds":
        return None
    return refit_name(member.name)


def planned_members(
    members: Mapping[str, TrainedSpec], repeats: Sequence[str] = ()
) -> tuple[PlannedMember, ...]:
    """The members that recipe entries make, in order, soups last.

    Of a repeated split one of each in `repeats`. Raises RequestError when two entries make one
    name, or a soup names what cannot be averaged.
    """
    columns = (
        {"": "fold"}
        if not repeats
        else {f"-r{i + 1}": c for i, c in enumerate(("fold", *repeats))}
    )
    found: list[PlannedMember] = []
    soups = {entry: spec for entry, spec in members.items() if isinstance(spec, SoupSpec)}
    for suffix, column in columns.items():
        made: list[PlannedMember] = []
        for entry, spec in members.items():
            if not isinstance(spec, SoupSpec):
                made += _of_entry(f"{entry}{suffix}", spec, column, entry)
        for entry, soup in soups.items():
            made.append(_soup(f"{entry}{suffix}", soup, column, entry, made))
        found += [_with_stack(member, made) for member in made]
    _check_names(found)
    return tuple(found)


def _of_entry(
    name: str, spec: MemberSpec | EnsembleSpec | AnyFittedSpec, column: str, entry: str
) -> list[PlannedMember]:
    trainings = (
        [name] if spec.seeds == 1 else [f"{name}-s{i + 1}" for i in range(spec.seeds)]
    )
    members = []
    for nth, training in enumerate(trainings):
        base = spec.base if isinstance(spec, FittedSpec) else spec
        made_here = PlannedMember(
            training, spec, column, entry, training, _primary(spec), base, nth
        )
        members += [
            replace(made_here, name=f"{training}{suffix}", variant=variant)
            for suffix, variant in _variants(spec).items()
        ]
    main = [
        member
        for member in members
        if not isinstance(spec, MemberSpec) or member.variant not in spec.also
    ]
    if isinstance(spec, FittedSpec):
        return members
    if spec.as_ == "ensemble" and len(main) > 1:
        parts = tuple(member.name for member in main)
        members = [replace(member, in_pool=member.name not in parts) for member in members]
        members.append(
            PlannedMember(name, spec, column, entry, name, "mean", spec, parts=parts)
        )
    return members


def _primary(spec: MemberSpec | EnsembleSpec | AnyFittedSpec) -> str:
    if isinstance(spec, FittedSpec):
        return spec.variant
    return spec.primary if isinstance(spec, MemberSpec) else "sum"


def _variants(spec: MemberSpec | EnsembleSpec | AnyFittedSpec) -> dict[str, str]:
    """Which networks of a training are members, by what is added to its name."""
    if isinstance(spec, FittedSpec):
        return {"": spec.variant}
    if isinstance(spec, EnsembleSpec):
        return (
            {"": "sum"}
            if spec.is_sum
            else {f"-e{i + 1}": f"e{i + 1}" for i in range(spec.estimators)}
        )
    if spec.cycle_ends:
        return {f"-{name}": name for name in spec.cycle_ends}
    return {"": spec.primary} | {f"-{name}": name for name in spec.also}


def _soup(
    name: str, spec: SoupSpec, column: str, entry: str, made: Sequence[PlannedMember]
) -> PlannedMember:
    found: dict[str, PlannedMember] = {}
    for wanted in spec.of:
        named = {
            member.name: member
            for member in made
            if member.is_called([wanted]) and not member.parts
        }
        if not named:
            known = [member.name for member in made if not member.parts]
            raise UnknownNameError("member", wanted, known, of=f"members.{entry}.of")
        found |= named
    if len(found) < 2:
        raise RequestError(
            f"members.{entry}.of names one network, {next(iter(found))!r}; a soup takes two or more"
        )
    base = next(iter(found.values())).base
    for member in found.values():
        if isinstance(member.spec, FittedSpec):
            raise RequestError(
                f"members.{entry}.of: {member.name!r} is {member.spec.method}: it trains no "
                "network whose weights could be averaged"
            )
        if isinstance(member.spec, SoupSpec) or member.variant == "sum":
            raise RequestError(
                f"members.{entry}.of: {member.name!r} is made of several networks and cannot be "
                "averaged"
            )
        odd = [
            f
            for f in ("backbone", "model_args", "target", "size", "input", "prepare")
            if getattr(member.base, f) != getattr(base, f)
        ]
        if odd:
            raise RequestError(
                f"members.{entry}.of: {member.name!r} has another {odd[0]} than "
                f"{next(iter(found))!r}; only equal networks can be averaged"
            )
    return PlannedMember(
        name, spec, column, entry, name, "soup", base, ingredients=tuple(found)
    )


def _with_stack(member: PlannedMember, made: Sequence[PlannedMember]) -> PlannedMember:
    """A tabular member with the names of the members whose predictions are its columns."""
    if not isinstance(member.spec, TabularSpec) or not member.spec.stack:
        return member
    found: dict[str, None] = {}
    others = [other for other in made if other.in_pool and other.entry != member.entry]
    for wanted in member.spec.stack:
        named = [other.name for other in others if other.is_called([wanted])]
        if not named:
            known = [other.name for other in others]
            raise UnknownNameError(
                "member", wanted, known, of=f"members.{member.entry}.stack"
            )
        found |= dict.fromkeys(named)
    stacked = [o.name for o in made if isinstance(o.spec, TabularSpec) and o.spec.stack]
    nested = sorted(set(stacked) & set(found))
    if nested:
        raise RequestError(
            f"members.{member.entry}.stack: {nested[0]!r} is stacked itself; name its members"
        )
    return replace(member, ingredients=tuple(found))


def _check_names(members: Sequence[PlannedMember]) -> None:
    seen: dict[str, str] = {}
    for member in members:
        if member.name in seen:
            raise RequestError(
                f"members {seen[member.name]!r} and {member.entry!r} both make {member.name!r}; "
                "rename one"
            )
        seen[member.name] = member.entry
