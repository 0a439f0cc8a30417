"""A blend that was made, and its scores."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensembler.blending.fitted import FittedBlend
from ensembler.blending.judging.comparison import paired_gain
from ensembler.blending.pool import Pool, Probs
from ensembler.blending.spec import BlendSpec
from ensembler.metrics import check_metric, score_all
from ensembler.predictions.explanation import BlendExplanation
from ensembler.targets.label_sets import is_known


@dataclass(frozen=True)
class BlendResult:
    """A blend.

    `oof` are cross-fitted and `fitted_oof` fitted probabilities `[rows, classes]`, `test` those of
    the test samples, which `blend` predicted. `scores` has "fitted",
    "cross_fitted" and "holdout" (or None).
    """

    name: str
    method: str
    members: tuple[str, ...]
    weights: dict[str, float] | None
    temperature: float | None
    seconds: float
    oof: NDArray[np.float32]
    fitted_oof: NDArray[np.float32]
    test: NDArray[np.float32] | None
    blend: FittedBlend | None  # None of a blend that is composed of others
    scores: dict[str, dict[str, float] | None]
    gain: dict[str, Any] | None
    warnings: tuple[dict[str, Any], ...] = ()
    details: BlendExplanation = field(default_factory=BlendExplanation)


def scores_of(
    pool: Pool,
    metric: str,
    fitted: Probs,
    cross_fitted: Probs,
    test: Probs | None,
    correction: float,
) -> dict[str, dict[str, float] | None]:
    """Fitted, cross-fitted and holdout scores.

    `correction` is added to the cross-fitted one in `metric`.
    """
    honest = score_all(np.asarray(cross_fitted), pool.y)
    if metric not in honest:
        honest |= score_all(np.asarray(cross_fitted), pool.y, [metric])
    if metric in honest:
        honest[metric] += correction
    holdout = None
    if test is not None and pool.test_y is not None:
        known = is_known(pool.test_y)
        holdout = score_all(test[known], pool.test_y[known]) if known.any() else None
    return {
        "fitted": score_all(np.asarray(fitted), pool.y),
        "cross_fitted": honest,
        "holdout": holdout,
    }


def gain_over_best(
    pool: Pool,
    spec: BlendSpec,
    cross_fitted: Probs,
    solo: NDArray[np.float64],
    correction: float = 0.0,
) -> dict[str, Any] | None:
    """The paired gain over the member that is best alone, by its scores `solo` `[members]`.

    None for a lone member. Like the score it has `correction` taken off, so that the score, the
    gain and the best member's score add up.
    """
    if len(pool.names) < 2:
        return None
    best = best_alone(spec.metric, solo)
    gain = paired_gain(
        spec.metric,
        cross_fitted,
        pool.names[best],
        pool.oof[best],
        pool.y,
        pool.groups,
        seed=spec.seed,
    )
    return gain.less(abs(correction)).to_json()


def best_alone(metric: str, values: NDArray[np.float64]) -> int:
    """Position of the member with the best of `values` `[members]`, its scores alone.

    NaN is never the best.
    """
    worst = -np.inf if check_metric(metric).greater_is_better else np.inf
    usable = np.where(np.isnan(values), worst, values)
    return int(usable.argmax() if worst < 0 else usable.argmin())
