"""A blend before it is fitted: a method, its options, and the calibration around it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ensembler.blending.calibration.calibrated import Calibrated, Calibration
from ensembler.blending.judging.cross_fitting import PARTS
from ensembler.blending.pool import Pool
from ensembler.blending.registry import (
    BlendMethod,
    create_blend,
    method_class,
    option_names,
)
from ensembler.blending.spec import BlendSpec
from ensembler.errors import RequestError, UnknownNameError
from ensembler.own_code import is_own


@dataclass(frozen=True)
class Candidate:
    """A method with its options and calibrations.

    `before` calibrates its members, `after` the blend. `variant` is added to the method's name
    where `auto` compares it with other options.
    """

    method: str
    options: dict[str, Any] = field(default_factory=dict)
    after: Calibration = "none"
    before: Calibration = "none"
    metric: str = "log_loss"
    variant: str = ""

    @property
    def label(self) -> str:
        """Its name in tables."""
        before = [] if self.before == "none" else [self.before]
        after = [] if self.after == "none" else [self.after]
        return " + ".join([*before, f"{self.method} {self.variant}".strip(), *after])

    @property
    def code(self) -> list[str]:
        """Every `module:name` of the user's own that it names."""
        named = (self.method, self.metric, *self.options.values())
        return [str(place) for place in named if is_own(place)]

    def of_members(self, kept: Sequence[int]) -> Candidate:
        """The candidate for the members at some positions."""
        options = method_class(self.method).options_for_members(self.options, kept)
        return replace(self, options=options)

    def to_json(self) -> dict[str, Any]:
        """As plain values, if its options are."""
        return dict(self.__dict__)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Candidate:
        """The candidate that `to_json` wrote."""
        return cls(**content)

    def make(self) -> BlendMethod:
        """A fresh method, not fitted yet."""
        method = create_blend(self.method, **self.options)
        if self.after == self.before == "none":
            return method
        calibrated: BlendMethod = Calibrated(method, self.after, self.before, self.metric)
        return calibrated


def candidate_of(spec: BlendSpec, pool: Pool, budget: float | None) -> Candidate:
    """The one candidate of a spec that names its method, with options checked."""
    options = {**_defaults(spec, budget), **spec.options}
    if options.get("inputs") == "logits":
        raise RequestError(
            "option inputs=logits: the members of a run are blended by their probabilities; leave "
            "it out"
        )
    if spec.weights is not None:
        options["weights"] = _weights_in_order(spec, pool)
    candidate = Candidate(
        spec.method, options, spec.calibrate, spec.calibrate_members, spec.metric
    )
    candidate.make()  # an option that is not there is said now
    return candidate


def _defaults(spec: BlendSpec, budget: float | None) -> dict[str, Any]:
    """What the method's options are when the spec does not say them."""
    by_name: dict[str, Any] = {"metric": _searched_by(spec), "seed": spec.seed}
    if budget is not None:
        # One search is the blend, the others are its honest score.
        by_name["time_limit"] = budget / (1 + PARTS)
    known = option_names(spec.method)
    return {name: value for name, value in by_name.items() if name in known}


def _searched_by(spec: BlendSpec) -> str:
    """The spec's metric, or the first that the method can search by where that is none of them."""
    possible = method_class(spec.method).searches_by
    return spec.metric if not possible or spec.metric in possible else possible[0]


def _weights_in_order(spec: BlendSpec, pool: Pool) -> list[float]:
    given = spec.weights
    if isinstance(given, dict):
        unknown = [name for name in given if name not in pool.names]
        if unknown:
            raise UnknownNameError("member in weights", unknown[0], pool.names)
        return [given.get(name, 0.0) for name in pool.names]
    values = list(given or ())
    if len(values) != len(pool.names):
        raise RequestError(
            f"{len(values)} weights for {len(pool.names)} members: {', '.join(pool.names)}"
        )
    return values
