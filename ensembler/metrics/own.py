"""Metrics of the user's own, `module:name`: made a `Metric`, and watched while they compute."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np

from ensembler.errors import RequestError
from ensembler.metrics.metric import Labels, Metric, Probs
from ensembler.own_code import load_own


@dataclass(frozen=True)
class Watched:
    """A function whose every fault becomes one RequestError that names the metric.

    It is given probabilities as float64, and neither them nor the labels to write on.
    """

    name: str
    function: Callable[[Any, Any], Any]

    def __call__(self, probs: Probs, y: Labels) -> float:
        """The metric of probabilities `[samples, classes]` and labels; NaN passes."""
        given = _read_only(np.asarray(probs, np.float64)), _read_only(np.asarray(y))
        try:
            value = self.function(*given)
        except RequestError:
            raise
        except Exception as error:
            shapes = (
                f"probabilities {list(given[0].shape)} and labels {list(given[1].shape)}"
            )
            raise RequestError(
                f"metric {self.name!r} failed on {shapes}: {type(error).__name__}: {error}"
            ) from error
        return self._number(value)

    def _number(self, value: object) -> float:
        array = np.asarray(value)
        is_number = array.shape == () and array.dtype.kind in "biuf"
        if not is_number:
            what = f"an array {list(array.shape)}" if array.shape else repr(value)
            raise RequestError(f"metric {self.name!r} returned {what}; expected one number")
        return float(array)


def _read_only(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    view = array.view()
    view.flags.writeable = False
    return view


@cache
def own_metric(place: str) -> Metric:
    """The metric at `module:name`: a `Metric`, or a function `(probs, y) -> float`.

    A function says by an attribute `greater_is_better = False` that less is better; without it more
    is. RequestError for anything else.
    """
    return metric_of(place, load_own(place, "metric"))


def metric_of(name: str, found: object) -> Metric:
    """What was found behind a name as a `Metric` that is called by this name."""
    if isinstance(found, Metric):
        return replace(found, name=name, compute=Watched(name, found.compute))
    if not callable(found):
        raise RequestError(
            f"metric {name!r} is {type(found).__name__}; expected a function (probs, y) -> float, "
            "or a Metric"
        )
    _check_signature(name, found)
    direction = getattr(found, "greater_is_better", True)
    if not isinstance(direction, bool):
        raise RequestError(
            f"metric {name!r}: greater_is_better is {direction!r}; expected True or False"
        )
    return Metric(name, Watched(name, found), direction)


def _check_signature(name: str, function: Callable[..., Any]) -> None:
    try:
        signature = inspect.signature(function)
    except ValueError:  # some functions written in C say nothing of their arguments
        return
    try:
        signature.bind(None, None)
    except TypeError as error:
        raise RequestError(
            f"metric {name!r} takes {signature}; expected a function (probs, y) -> float"
        ) from error
