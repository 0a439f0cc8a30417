"""What a blend costs at inference, and the best one that a budget of seconds allows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensembler.blending.methods.true_class import true_class_column
from ensembler.blending.pool import Pool, Stack, Targets
from ensembler.errors import RequestError
from ensembler.machine.threads import one_thread

_MOST = 30  # members in a choice


@dataclass(frozen=True)
class FrontierPoint:
    """Some members, the seconds a sample costs with all of them, and their log loss.

    The log loss is that of their best linear pool on the fitted rows: it compares choices of
    members, it does not promise.
    """

    members: tuple[str, ...]
    seconds: float
    log_loss: float

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "members": list(self.members),
            "seconds": self.seconds,
            "log_loss": self.log_loss,
        }


@dataclass(frozen=True)
class Bundle:
    """The same, the members given by their positions."""

    members: tuple[int, ...]
    seconds: float
    log_loss: float


def frontier(
    pool: Pool, costs: Mapping[str, float], most: float = np.inf
) -> list[FrontierPoint]:
    """The Pareto frontier of cost and log loss, the cheapest first.

    Nothing on it costs more than `most` seconds. RequestError for a member without a cost, or when
    none is cheap enough.
    """
    bundles = cheapest_bundles(pool.oof, pool.y, known_seconds(pool, costs, most), most)
    return [
        FrontierPoint(tuple(pool.names[m] for m in b.members), b.seconds, b.log_loss)
        for b in bundles
    ]


def known_seconds(
    pool: Pool, costs: Mapping[str, float], most: float
) -> NDArray[np.float64]:
    """What a sample costs with each member `[members]`.

    RequestError where that is unknown, or above `most` for all.
    """
    missing = [name for name in pool.names if name not in costs]
    if missing:
        raise RequestError(
            f"member {missing[0]!r} has no known cost; --costs {missing[0]}=0.01 says its seconds "
            "a sample"
        )
    seconds = np.array([costs[name] for name in pool.names], np.float64)
    if not (np.isfinite(seconds).all() and (seconds >= 0).all()):
        raise RequestError("costs are seconds for one sample: finite and not negative")
    if seconds.min() > most:
        cheapest = pool.names[int(seconds.argmin())]
        raise RequestError(
            f"no member costs at most {most:g} s a sample; the cheapest, {cheapest!r}, costs "
            f"{seconds.min():g}"
        )
    return seconds


def cheapest_bundles(
    stack: Stack, y: Targets, seconds: NDArray[np.float64], most: float
) -> list[Bundle]:
    """The frontier of a stack, by positions of its members.

    Members are added one at a time, once by what they gain and once by what they gain for each
    second, and their weights are found anew each time.
    """
    with one_thread():
        column = true_class_column(stack, y)
        bundles = [Bundle((m,), float(seconds[m]), _loss(q)) for m, q in enumerate(column)]
        for by_second in (False, True):
            bundles += _grow(column, seconds, most, by_second=by_second)
    best: list[Bundle] = []
    for bundle in sorted(
        (b for b in bundles if b.seconds <= most), key=lambda b: (b.seconds, b.log_loss)
    ):
        if not best or bundle.log_loss < best[-1].log_loss - 1e-9:
            best.append(bundle)
    return best


def _grow(
    column: NDArray[np.float32],
    seconds: NDArray[np.float64],
    most: float,
    *,
    by_second: bool,
) -> list[Bundle]:
    from ensembler.blending.methods.simplex import (
        log_loss_optimum,  # scipy loads with it, for those who ask for costs alone
    )

    chosen: list[int] = []
    mix = np.empty(0)  # of the members chosen so far
    bundles = []
    while len(chosen) < min(_MOST, len(column)):
        left = most - seconds[chosen].sum()
        open_to = [m for m in range(len(column)) if m not in chosen and seconds[m] <= left]
        if not open_to:
            break
        if chosen:
            gains = np.array(
                [np.log1p(column[m] / (len(chosen) * mix)).mean() for m in open_to]
            )
            gains -= np.log1p(1 / len(chosen))
        else:
            gains = np.array([np.exp(np.log(column[m]).mean()) for m in open_to])
        worth = (
            gains / np.maximum(seconds[open_to], 1e-9)
            if by_second and (gains > 0).all()
            else gains
        )
        chosen.append(open_to[int(worth.argmax())])
        weights, _ = log_loss_optimum(np.ascontiguousarray(column[chosen]), 1e-5)
        mix = weights @ column[chosen].astype(np.float64)
        used = [m for m, w in zip(chosen, weights, strict=True) if w > 0]
        bundles.append(Bundle(tuple(sorted(used)), float(seconds[used].sum()), _loss(mix)))
    return bundles


def _loss(column: NDArray[np.floating]) -> float:
    return float(-np.log(column).mean(dtype=np.float64))
