"""What each member is worth to a blend, alone and beside the others."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensembler.blending.pool import Pool, Probs, StackPart
from ensembler.blending.registry import BlendMethod
from ensembler.metrics import check_metric, score


@dataclass(frozen=True)
class MemberWorth:
    """A member's score alone, and what the blend loses without it.

    `marginal` is by how much the metric is worse on the fitted rows without the member: positive
    for a member that helps, and None when there was no time to fit the blend without it.
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
    fitted: BlendMethod,
    *,
    seconds: float,
) -> list[MemberWorth]:
    """The worth of every member to a `fitted` blend whose metric is `value` on the fitted rows.

    Blends without a member are fitted for `seconds`, members of large weight first.
    """
    sign = -1 if check_metric(metric).greater_is_better else 1
    weights = fitted.weights_
    size = -sign * solo if weights is None else np.abs(weights)
    marginal: dict[int, float] = {}
    began, longest = time.perf_counter(), 0.0
    for m in np.argsort(-size, kind="stable") if len(pool.names) > 1 else ():
        if fitted.zero_weight_is_absent and weights[m] == 0:
            marginal[int(m)] = 0.0
            continue
        started = time.perf_counter()
        if started - began + longest > seconds:
            break
        probs = _refitted_without(int(m), fitted, pool)
        marginal[int(m)] = sign * (score(metric, probs, pool.y) - value)
        longest = max(longest, time.perf_counter() - started)
    shown = [None] * len(solo) if weights is None else [float(weight) for weight in weights]
    return [
        MemberWorth(name, weight, float(alone), marginal.get(i))
        for i, (name, weight, alone) in enumerate(zip(pool.names, shown, solo, strict=True))
    ]


def _refitted_without(member: int, fitted: BlendMethod, pool: Pool) -> Probs:
    """Probabilities of the fitted rows by the same blend of all other members."""
    others = [m for m in range(len(pool.names)) if m != member]
    method = fitted.without(member)
    stack = StackPart(pool.oof, others).for_method(method)
    return method.fit(stack, pool.y).predict_proba(stack)
