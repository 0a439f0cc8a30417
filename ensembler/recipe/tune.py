"""What a recipe may say about a search: which values vary, and how trials are judged."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ensembler.data.spec import DataSpec, FoldSpec
from ensembler.deadline import seconds_in
from ensembler.errors import nearest
from ensembler.metrics import metric_names
from ensembler.own_code import is_own
from ensembler.training.spec import (
    AnyFittedSpec,
    AnyMemberSpec,
    EnsembleSpec,
    MemberSpec,
    SoupSpec,
)

BLEND_OBJECTIVE = "blend"
SAMPLERS = ("tpe", "random", "qmc", "gp", "cmaes", "nsgaii", "brute_force")
PRUNERS = ("none", "median", "percentile", "asha", "successive_halving", "hyperband")
_ROUND_NUMBERS = {"kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
_SIZE = re.compile(r"^\s*(?P<number>\d+(\.\d+)?)\s*(?P<unit>[kmgt]b)\s*$", re.IGNORECASE)
_LONGEST_LABEL = 60

Algorithm = str | dict[str, Any]


class DimensionSpec(BaseModel):
    """What is tried for one value: a range of numbers, or choices.

    `[a, b]` is short for `{choices: [a, b]}`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    float_: tuple[float, float] | None = Field(
        None, alias="float", description="The lowest and the highest number."
    )
    int_: tuple[int, int] | None = Field(
        None, alias="int", description="The lowest and the highest whole number."
    )
    choices: tuple[Any, ...] | dict[str, Any] | None = Field(
        None,
        min_length=1,
        description="The values, or values by a short name: "
        "{none: none, strong: {preset: heavy}}.",
    )
    log: bool = Field(
        False, description="Whether a range is searched by orders of magnitude."
    )
    step: float | None = Field(None, gt=0, description="Steps of a range, from its lowest.")
    when: dict[str, Any] = Field(
        default_factory=dict,
        description="Only where other values are these: {opt: sgd}, or one of {opt: [sgd, lamb]}.",
    )

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, given: Any) -> Any:
        if isinstance(given, list):
            return {"choices": given}
        if not isinstance(given, (Mapping, DimensionSpec)):
            raise ValueError(
                f"{given!r} is one value; expected choices such as [a, b], or a range such as "
                "{float: [1e-4, 1e-2], log: true}"
            )
        return given

    @model_validator(mode="after")
    def _check(self) -> DimensionSpec:
        for problem in self._problems():
            raise ValueError(problem)
        return self

    def _problems(self) -> Iterator[str]:
        given = [
            kind
            for kind, value in (
                ("float", self.float_),
                ("int", self.int_),
                ("choices", self.choices),
            )
            if value is not None
        ]
        if len(given) != 1:
            said = " and ".join(given) or "none of them"
            yield f"expected one of float, int and choices, found {said}"
            return
        if self.choices is not None:
            yield from self._problems_of_choices()
        else:
            yield from self._problems_of_range()

    def _problems_of_range(self) -> Iterator[str]:
        low, high = self.range
        if not low < high:
            yield f"[{low:g}, {high:g}] should be a lower and a higher number"
        if self.log and low <= 0:
            yield f"log: true needs numbers above 0, and the lowest is {low:g}"
        if self.log and self.step is not None:
            yield "step and log: true exclude each other"
        if self.int_ is not None and self.step is not None and self.step % 1:
            yield f"step {self.step:g} of whole numbers should be one, too"

    def _problems_of_choices(self) -> Iterator[str]:
        labels = list(self.by_label)
        twice = [label for label in labels if labels.count(label) > 1]
        if twice or len(labels) < len(self.choices or ()):
            yield "choices name one twice"
        if self.log or self.step is not None:
            yield "log and step are of ranges, not of choices"

    @property
    def range(self) -> tuple[float, float]:
        """The lowest and highest number of a range."""
        found = self.float_ or self.int_
        assert found is not None
        return found

    @property
    def by_label(self) -> dict[str, Any]:
        """The choices by the name that a trial calls each."""
        choices = self.choices or ()
        if isinstance(choices, dict):
            return dict(choices)
        return {label_of(value): value for value in choices}


def label_of(value: Any) -> str:
    """The name of a choice that has none of its own: itself, as YAML writes it."""
    if isinstance(value, str):
        return value
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Mapping):
        inside = ", ".join(f"{key}: {label_of(item)}" for key, item in value.items())
        text = f"{{{inside}}}"
    elif isinstance(value, (list, tuple)):
        text = f"[{', '.join(label_of(item) for item in value)}]"
    else:
        text = str(value)
    return text if len(text) <= _LONGEST_LABEL else f"{text[: _LONGEST_LABEL - 3]}..."


class TuneSpec(BaseModel):
    """A search for options of a member; every trial is a member of the run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    member: str | None = Field(
        None, description="The entry of members that varies (default: the first)."
    )
    space: dict[str, DimensionSpec] = Field(
        min_length=1,
        description="What varies: an option of the member by its name, or a path in the recipe "
        "with dots (input.size).",
    )
    trials: int = Field(
        20,
        ge=1,
        description="How many trials are finished in the end, pruned ones included.",
    )
    folds: int = Field(
        1, ge=1, description="Folds that a trial is judged on, fold 0 first."
    )
    objective: str = Field(
        "log_loss",
        description="A metric, or blend: what a trial adds to the cross-fitted blend of the "
        "members there are.",
    )
    sampler: Algorithm = Field(
        "tpe",
        description="How values are chosen: tpe, random, qmc, gp, cmaes, nsgaii or brute_force, "
        "or {name: tpe, ...} with options of Optuna's sampler.",
    )
    pruner: Algorithm = Field(
        "none",
        description="What ends poor trials early: none, median, asha, percentile, "
        "successive_halving or hyperband, or {name: median, ...} with options of Optuna's pruner. "
        "Trials are compared after each quarter of fold 0 and after each fold.",
    )
    keep: int = Field(
        5,
        ge=1,
        description="How many trials are completed over all folds: the best, and those that add "
        "most to a blend.",
    )
    weights: int = Field(
        10,
        ge=1,
        description="Of how many trials weights are kept while the search is going on; logits are "
        "kept of all.",
    )
    disk: str | None = Field(
        None,
        description="What all trials may take on the disk, such as 20 GB; then the search ends.",
    )
    timeout: str | None = Field(
        None,
        description="What one trial may take, such as 45m; then it has failed, and its process is "
        "ended.",
    )
    seed: int | None = Field(
        None, ge=0, description="Seed of the sampler (default: the recipe's)."
    )

    @model_validator(mode="after")
    def _check(self) -> TuneSpec:
        for kind, given, known in (
            ("sampler", self.sampler, SAMPLERS),
            ("pruner", self.pruner, PRUNERS),
        ):
            name = algorithm_name(given)
            if name not in known:
                raise ValueError(f"unknown {kind} {name!r}; {nearest(name, known)}")
        if self.keep > self.weights:
            raise ValueError(
                f"weights {self.weights} should be at least keep {self.keep}: what is completed "
                "needs its weights"
            )
        if self.objective == BLEND_OBJECTIVE and algorithm_name(self.pruner) != "none":
            raise ValueError(
                "pruner: with objective: blend no trial is pruned, for its own score says little; "
                "leave pruner out"
            )
        _ = self.timeout_seconds, self.disk_bytes, self.order
        return self

    @property
    def timeout_seconds(self) -> float | None:
        """What one trial may take, in seconds."""
        if self.timeout is None:
            return None
        found = seconds_in(self.timeout)
        if found is None or found <= 0:
            raise ValueError(
                f"timeout {self.timeout!r} is no length of time; expected 90s, 45m or 1h30m"
            )
        return found

    @property
    def disk_bytes(self) -> int | None:
        """What all trials may take on the disk, in bytes."""
        if self.disk is None:
            return None
        found = _SIZE.match(self.disk)
        if found is None:
            raise ValueError(f"disk {self.disk!r} is no size; expected 500 MB or 20 GB")
        return int(float(found["number"]) * _ROUND_NUMBERS[found["unit"].lower()])

    @property
    def order(self) -> tuple[str, ...]:
        """The keys of the space, each after those that its `when` names."""
        sorter = TopologicalSorter[str]()
        for key, dimension in self.space.items():
            sorter.add(key, *(other for other in dimension.when if other in self.space))
        try:
            return tuple(sorter.static_order())
        except CycleError as error:
            names = " -> ".join(map(str, error.args[1]))
            raise ValueError(f"space: when goes round in a circle: {names}") from error


def algorithm_name(given: Algorithm) -> str:
    """The name of a sampler or pruner, in our spelling: TPESampler is tpe, too."""
    name = given if isinstance(given, str) else str(given.get("name", ""))
    short = re.sub(r"(Sampler|Pruner)$", "", name)
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", short).lower()
    return {"cma_es": "cmaes", "nop": "none"}.get(words, words)


def algorithm_options(given: Algorithm) -> dict[str, Any]:
    """The options given with the name of a sampler or pruner."""
    if isinstance(given, str):
        return {}
    return {key: value for key, value in given.items() if key != "name"}


def is_met(condition: Any, value: Any) -> bool:
    """Whether a value is the one that a `when` names, or one of them."""
    wanted: Sequence[Any] = (
        condition if isinstance(condition, (list, tuple)) else [condition]
    )
    return any(_equals(value, one) for one in wanted)


def _equals(value: Any, other: Any) -> bool:
    if isinstance(value, bool) != isinstance(other, bool):
        return False
    if isinstance(value, float) and isinstance(other, (int, float)):
        return math.isclose(value, other, rel_tol=1e-12)
    return bool(value == other)


def check_tune(
    tune: TuneSpec, members: Mapping[str, AnyMemberSpec], folds: FoldSpec, data: DataSpec
) -> None:
    """Raise ValueError for a search that does not fit a recipe's members, folds and targets."""
    trained = [name for name, spec in members.items() if not isinstance(spec, SoupSpec)]
    if not trained:
        raise ValueError("tune needs a member that is trained")
    member = tune.member or trained[0]
    if member not in trained:
        raise ValueError(f"tune.member {member!r}; {nearest(member, trained)}")
    if folds.scheme not in ("column", "single") and tune.folds > folds.count:
        raise ValueError(
            f"tune.folds {tune.folds} should be at most folds.count, {folds.count}"
        )
    spec = members[member]
    assert not isinstance(spec, SoupSpec)
    _check_objective(tune.objective, (*spec.targets, *data.label_names)[0], data)
    _check_conditions(tune, spec)


def _check_objective(objective: str, target: str, data: DataSpec) -> None:
    kind = data.kind(target)
    fitting = metric_names(of=kind)
    if objective in (*fitting, BLEND_OBJECTIVE) or is_own(objective):
        return
    if objective in metric_names():
        raise ValueError(
            f"tune.objective {objective!r} is not a metric of {kind.says}, which {target!r} has; "
            f"choose from {', '.join(fitting)}, {BLEND_OBJECTIVE}"
        )
    raise ValueError(
        f"unknown tune.objective {objective!r}; {nearest(objective, (*fitting, BLEND_OBJECTIVE))}"
    )


def _check_conditions(
    tune: TuneSpec, member: MemberSpec | EnsembleSpec | AnyFittedSpec
) -> None:
    """Raise ValueError for a `when` that names neither a key of the space nor an option."""
    options = {field.alias or name for name, field in type(member).model_fields.items()}
    known = [*tune.space, *sorted(options)]
    for key, dimension in tune.space.items():
        for other in dimension.when:
            if other == key or other not in known:
                raise ValueError(
                    f"tune.space.{key}: when names {other!r}; {nearest(other, known)}"
                )
