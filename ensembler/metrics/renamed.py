"""Metrics whose names have changed: an error for a user, today's name in records of runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ensembler.errors import RequestError

TODAY = {"cohen_kappa": "quadratic_kappa"}
ADVICE = {
    "cohen_kappa": "write quadratic_kappa for the same number (errors weigh by the squared "
    "distance of classes), or unweighted_kappa for what scikit-learn calls cohen_kappa_score",
}


def refuse_renamed(name: str) -> None:
    """Raise RequestError for a name that a metric had before."""
    if name in ADVICE:
        raise RequestError(f"{name!r} is not a metric any more: {ADVICE[name]}")


def first_name(name: str) -> str:
    """The name a metric was first recorded under: fingerprints keep it, so nothing is made anew."""
    return next((old for old, new in TODAY.items() if new == name), name)


def with_names_of_today(recorded: Mapping[str, Any]) -> dict[str, Any]:
    """Options that a record of a run holds (a blend, a member), with today's names of metrics."""
    options = dict(recorded)
    for key in ("metric", "choose_by"):
        name = options.get(key)
        if isinstance(name, str) and name in TODAY:
            options[key] = TODAY[name]
    if isinstance(options.get("options"), dict):
        options["options"] = with_names_of_today(options["options"])
    return options
