"""What each member is worth to a blend, alone and beside the others."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensembler.blending.pool import Pool, StackPart
from ensembler.blending.registry import BlendMethod
from ensembler.metrics import check_metric, score


@dataclass(frozen=True)
class MemberWorth:
    """A member's score alone, and by how much the metric is worse on the fitted rows when the blend lacks it.

    `marginal` is positive for a member that helps, and None when there was no time to fit the blend
    without it.
    """

    member: str
    weight: float | None
    solo: float
    marginal: float | None

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return dict(self.__dict__)


def member_worths(
    pool: Pool,
    metric: str,
    solo: NDArray[np.float64],
    value: float,
    weights: NDArray[np.float64] | None,
    without: Callable[[Sequence[int]], BlendMethod],
    *,
    idle_is_worthless: bool,
    seconds: float,
) -> list[MemberWorth]:
    """The worth of every member of a blend whose metric is `value` on the fitted rows.

    `without` makes the blend's method for the members at some positions; blends are fitted for
    `seconds`, members of large weight first. `idle_is_worthless` says that a member of weight zero
    does not move the others.
    """
    sign = -1 if check_metric(metric).greater_is_better else 1
    size = np.abs(weights) if weights is not None else -sign * solo
    marginal: dict[int, float] = {}
    began, longest = time.perf_counter(), 0.0
    for m in np.argsort(-size, kind="stable") if len(pool.names) > 1 else ():
        if idle_is_worthless and weights is not None and weights[m] == 0:
            marginal[int(m)] = 0.0
            continue
        started = time.perf_counter()
        if started - began + longest > seconds:
            break
        rest = [i for i in range(len(pool.names)) if i != m]
        method = without(rest)
        stack = StackPart(pool.oof, rest).for_method(method)
        probs = method.fit(stack, pool.y).predict_proba(stack)
        marginal[int(m)] = sign * (score(metric, probs, pool.y) - value)
        longest = max(longest, time.perf_counter() - started)
    return [
        MemberWorth(
            name, None if weights is None else float(weights[i]), float(solo[i]), marginal.get(i)
        )
        for i, name in enumerate(pool.names)
    ]
