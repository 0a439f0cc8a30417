"""From the options of `ens blend` to a checked spec."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Sequence
from typing import Any

from pydantic import ValidationError

from ensembler.blending.spec import BlendSpec
from ensembler.blends.pool import BLEND_PREFIX
from ensembler.errors import RequestError, UnknownNameError, nearest
from ensembler.metrics.renamed import with_names_of_today
from ensembler.predictions.store import RunStore
from ensembler.recipe.document import parse_value

_TIME = re.compile(r"^(?P<number>\d+(\.\d+)?)\s*(?P<unit>ms|s|min|m|h)?$")
_SECONDS = {"ms": 0.001, "s": 1.0, None: 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


def seconds(text: str) -> float:
    """Seconds in "30s", "5min", "2h" or "90"."""
    match = _TIME.match(text.strip())
    if match is None:
        raise RequestError(f"{text!r} is not a time; write it like 30s, 5min or 2h")
    return float(match["number"]) * _SECONDS[match["unit"]]


def blend_spec(  # noqa: PLR0913 a keyword for each option of `ens blend`
    store: RunStore,
    *,
    method: str | None = None,
    weights: str | None = None,
    members: Sequence[str] | None = None,
    name: str | None = None,
    metric: str | None = None,
    merge: str | None = None,
    views: Sequence[str] | None = None,
    calibrate: str | None = None,
    calibrate_members: str | None = None,
    prune: float | None = None,
    max_cost: float | None = None,
    options: Sequence[str] = (),
) -> BlendSpec:
    """The blend that the command line asks for; what it does not say is the recipe's.

    Raises RequestError for unknown members, weights that do not fit them, and options that are not
    there.
    """
    base = with_names_of_today(store.lock.section("blend"))
    if method is not None or weights is not None:
        # Another method than the recipe's: only what every method has is kept of its options.
        base = {key: base[key] for key in ("metric", "merge") if key in base}
    given: dict[str, Any] = {"metric": metric, "merge": merge, "name": name}
    given["members"] = None if members is None else list(members)
    given["views"] = None if views is None else list(views)
    given["method"] = method
    given |= {
        "calibrate": calibrate,
        "calibrate_members": calibrate_members,
        "prune": prune,
        "max_cost": max_cost,
    }
    if weights is not None:
        given["method"] = method or "weights"
        known = list(members or base.get("members") or store.pool_members)
        given["weights"] = parse_weights(
            weights, known if store.composition is None else [*known, "composed"]
        )
    typed = dict(_option(option) for option in options)
    if typed:
        given["options"] = {**base.get("options", {}), **typed}
    content = {**base, **{key: value for key, value in given.items() if value is not None}}
    _check_members(store, content.get("members"))
    try:
        spec = BlendSpec.model_validate(content)
    except ValidationError as error:
        raise RequestError(_explain(error)) from error
    _check_code(store, spec, [method, metric, *typed.values()])
    return spec


def _check_code(store: RunStore, spec: BlendSpec, typed: Collection[object]) -> None:
    """Raise RequestError for code that only the records of a run name.

    The records may come from somebody else.
    """
    recorded = [place for place in spec.code if place not in typed]
    if not recorded:
        return
    place, kind = recorded[0], spec.code[recorded[0]]
    how = f"--{kind} {place}" if kind in ("metric", "method") else _how_to_name(spec, place)
    raise RequestError(
        f"{store.recipe_lock_path} names code to blend with, {place!r}, and what a record names is "
        f"not run; if it is yours, name it: {how}, or `ens run RECIPE`"
    )


def _how_to_name(spec: BlendSpec, place: str) -> str:
    key = next(key for key, value in spec.options.items() if value == place)
    return f"--method {spec.method} --option {key}={place}"


def _option(text: str) -> tuple[str, Any]:
    key, separator, value = text.partition("=")
    if not separator or not key:
        raise RequestError(f"--option {text!r}: expected key=value")
    return key, parse_value(value)


def _check_members(store: RunStore, members: Sequence[str] | None) -> None:
    for name in members or ():
        if name.startswith(BLEND_PREFIX):
            store.blend(name.removeprefix(BLEND_PREFIX))
        elif name not in store.complete_members:
            raise UnknownNameError("member", name, store.complete_members)


def _explain(error: ValidationError) -> str:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return (
            f"{key!r} is not an option of a blend; "
            f"{nearest(key, BlendSpec.model_fields, most=40)}"
        )
    if first["type"] == "value_error":
        return str(first["ctx"]["error"])
    return (
        f"{key} is {first['input']!r}; "
        f"{first['msg'].replace('Input should be', 'expected').lower()}"
    )


def parse_weights(text: str, members: Sequence[str]) -> dict[str, float]:
    """Weights by name ("a=2,b=1") or in the order of `members` ("0.5,0.3,0.2")."""
    parts = [part.strip() for part in text.split(",")]
    if all("=" in part for part in parts):
        pairs = [part.partition("=") for part in parts]
        named = [key.strip() for key, _, _ in pairs]
        for key in named:
            if key not in members:
                raise UnknownNameError("member in --weights", key, members)
        if len(set(named)) != len(named):
            raise RequestError(f"--weights {text!r} names a member twice")
        return {
            key: _weight(value) for key, (_, _, value) in zip(named, pairs, strict=True)
        }
    if any("=" in part for part in parts):
        raise RequestError(
            f"--weights {text!r}: give every weight a name (a=2,b=1) or none (2,1)"
        )
    if len(parts) != len(members):
        raise RequestError(
            f"--weights has {len(parts)} values for {len(members)} members: {', '.join(members)}"
        )
    return {name: _weight(value) for name, value in zip(members, parts, strict=True)}


def parse_costs(text: str) -> dict[str, float]:
    """Seconds a sample by member, in "a=0.01,b=0.002"."""
    pairs = [part.partition("=") for part in text.split(",")]
    if not all(separator and key.strip() for key, separator, _ in pairs):
        raise RequestError(
            f"--costs {text!r}: expected seconds by member, such as a=0.01,b=0.002"
        )
    return {key.strip(): _weight(value) for key, _, value in pairs}


def _weight(text: str) -> float:
    try:
        value = float(text)
    except ValueError as error:
        raise RequestError(f"weight {text!r} is not a number") from error
    if not math.isfinite(value) or value < 0:
        raise RequestError(f"weight {text!r}: weights are finite and not negative")
    return value
