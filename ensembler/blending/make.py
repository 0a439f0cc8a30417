"""From a pool and a spec to a blend: fitted, scored three ways, compared with its best member."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensembler.blending.automatic import Candidate, choose
from ensembler.blending.cross_fitting import cross_fit, fitting_parts
from ensembler.blending.gain import paired_gain
from ensembler.blending.guards import Finding, look_at, suspected
from ensembler.blending.pool import Pool, Probs
from ensembler.blending.registry import BLEND_METHODS, BlendMethod, accepts
from ensembler.blending.spec import BlendSpec
from ensembler.blending.tempered import Tempered
from ensembler.blending.voting import BestMember
from ensembler.errors import RequestError, UnknownNameError
from ensembler.metrics import check_metric, score_all

# Nothing is fitted in these: their cross-fitted predictions are the plain ones.
UNFITTED = ("soft", "hard", "geometric", "power", "median", "trimmed_mean", "rank", "weights")


@dataclass(frozen=True)
class BlendResult:
    """A blend.

    `oof` are cross-fitted and `fitted_oof` fitted probabilities `[rows, classes]`, `test` those of the test samples
    (each fold's stack blended, then averaged). `scores` has "fitted", "cross_fitted" and "holdout" (or None).
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
    scores: dict[str, dict[str, float] | None]
    gain: dict[str, Any] | None
    warnings: tuple[dict[str, Any], ...] = ()
    details: dict[str, Any] = field(default_factory=dict)


def make_blend(
    pool: Pool,
    spec: BlendSpec,
    *,
    trust: Sequence[str] = (),
    budget: float | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> BlendResult:
    """Find the blend that `spec` asks for.

    `auto` leaves out members that look leaked unless they are in `trust`, and stops comparing after `budget` seconds.
    """
    check_metric(spec.metric)
    began = time.perf_counter()
    findings = look_at(pool)
    if spec.method == "auto":
        pool = _without_leaks(pool, findings, trust)
    part = fitting_parts(pool.y, pool.folds, pool.groups, seed=spec.seed)
    details: dict[str, Any] = {}
    cross_fitted: Probs | None = None
    correction = 0.0
    if spec.method == "auto":
        out_of_time = (lambda: time.perf_counter() - began > budget) if budget is not None else (lambda: False)
        choice = choose(pool, spec.metric, part, seed=spec.seed, out_of_time=out_of_time, progress=progress)
        candidate, cross_fitted, correction = choice.candidate, choice.cross_fitted, choice.correction
        details = {
            "chosen": candidate.label,
            "candidates": choice.scores,
            "correction": correction,
            "gains": _gains_over_baselines(pool, spec, part, cross_fitted),
        }
        if choice.stopped_early:
            compared = ", ".join(choice.scores)
            findings.append(Finding("stopped_early", None, f"the search was stopped; only {compared} were compared"))
    else:
        candidate = _candidate(spec, pool)
    started = time.perf_counter()
    method = candidate.make().fit(pool.oof, pool.y)
    seconds = time.perf_counter() - started
    fitted = method.predict_proba(pool.oof)
    if cross_fitted is None:
        unfitted = candidate.method in UNFITTED and not candidate.tempered
        cross_fitted = fitted if unfitted else cross_fit(candidate.make, pool.oof, pool.y, part)
    test = _predict_test(method, pool)
    return BlendResult(
        name=spec.name or spec.method,
        method=spec.method if spec.method == "auto" else candidate.method,
        members=pool.names,
        weights=_weights(method, pool),
        temperature=getattr(method, "temperature_", None),
        seconds=seconds,
        oof=np.asarray(cross_fitted, np.float32),
        fitted_oof=np.asarray(fitted, np.float32),
        test=test,
        scores=_scores(pool, spec.metric, fitted, cross_fitted, test, correction),
        gain=_gain(pool, spec, cross_fitted),
        warnings=tuple(finding.to_json() for finding in findings),
        details={**details, **_learned(method)},
    )


def _without_leaks(pool: Pool, findings: Sequence[Finding], trust: Sequence[str]) -> Pool:
    unknown = [name for name in trust if name not in pool.names]
    if unknown:
        raise UnknownNameError("member to trust", unknown[0], pool.names)
    out = set(suspected(findings)) - set(trust)
    kept = [name for name in pool.names if name not in out]
    return pool.choose(kept) if out and kept else pool


def _candidate(spec: BlendSpec, pool: Pool) -> Candidate:
    BLEND_METHODS.check(spec.method)
    options = dict(spec.options)
    tempered = options.pop("temperature", None)
    if tempered not in (None, True, False, "auto"):
        raise RequestError(f"option temperature is {tempered!r}, expected true or false")
    for name, value in (("metric", spec.metric), ("seed", spec.seed)):
        if accepts(spec.method, name):
            options.setdefault(name, value)
    if spec.method == "simplex" and options.get("metric") not in ("log_loss", "brier") and "metric" not in spec.options:
        options["metric"] = "log_loss"
    if spec.method == "weights":
        options["weights"] = _weights_in_order(spec, pool)
    candidate = Candidate(spec.method, options, bool(tempered))
    candidate.make()  # an option that is not there is said now
    return candidate


def _weights_in_order(spec: BlendSpec, pool: Pool) -> list[float]:
    given = spec.weights
    if isinstance(given, dict):
        unknown = [name for name in given if name not in pool.names]
        if unknown:
            raise UnknownNameError("member in weights", unknown[0], pool.names)
        return [given.get(name, 0.0) for name in pool.names]
    values = list(given or ())
    if len(values) != len(pool.names):
        raise RequestError(f"{len(values)} weights for {len(pool.names)} members: {', '.join(pool.names)}")
    return values


def _predict_test(method: BlendMethod, pool: Pool) -> NDArray[np.float32] | None:
    if pool.test is None:
        return None
    if pool.test[0].shape[1] == 0:
        return np.empty((0, len(pool.classes)), np.float32)
    stacks = pool.test_stacks()
    total = sum(np.asarray(method.predict_proba(stack), np.float64) for stack in stacks)
    return np.asarray(total / len(stacks), np.float32)


def _weights(method: BlendMethod, pool: Pool) -> dict[str, float] | None:
    weights = method.weights_
    return None if weights is None else dict(zip(pool.names, map(float, weights), strict=True))


def _learned(method: BlendMethod) -> dict[str, Any]:
    """What a method learned beside weights, as plain values."""
    inner = method.method if isinstance(method, Tempered) else method
    found: dict[str, Any] = {}
    for key, attribute in (
        ("gap", "gap_"),
        ("bias", "bias_"),
        ("ridge", "ridge_"),
        ("ridge_scores", "ridge_scores_"),
        ("shrinkage", "shrinkage_"),
        ("shrinkage_scores", "shrinkage_scores_"),
    ):
        value = getattr(inner, attribute, None)
        if value is not None:
            found[key] = value.tolist() if isinstance(value, np.ndarray) else value
    picks = getattr(inner, "picks_", None)
    if picks:
        found["trajectory"] = [[pick.member, pick.value] for pick in picks]
    return found


def _scores(
    pool: Pool, metric: str, fitted: Probs, cross_fitted: Probs, test: Probs | None, correction: float
) -> dict[str, dict[str, float] | None]:
    honest = score_all(np.asarray(cross_fitted), pool.y)
    if metric not in honest:
        honest |= score_all(np.asarray(cross_fitted), pool.y, [metric])
    if metric in honest:
        honest[metric] += correction
    holdout = None
    if test is not None and pool.test_y is not None and (pool.test_y >= 0).any():
        known = pool.test_y >= 0
        holdout = score_all(test[known], pool.test_y[known])
    return {"fitted": score_all(np.asarray(fitted), pool.y), "cross_fitted": honest, "holdout": holdout}


def _gains_over_baselines(
    pool: Pool, spec: BlendSpec, part: NDArray[np.int64], cross_fitted: Probs
) -> list[dict[str, Any]]:
    """The gain over what one would otherwise hand in: soft voting with a temperature, and greedy selection."""
    if len(pool.names) < 2:
        return []
    baselines = [Candidate("soft", tempered=True), Candidate("greedy", {"metric": spec.metric, "rounds": 25})]
    gains = []
    for baseline in baselines:
        theirs = cross_fit(baseline.make, pool.oof, pool.y, part)
        gain = paired_gain(spec.metric, cross_fitted, baseline.label, theirs, pool.y, pool.groups, seed=spec.seed)
        gains.append(gain.to_json())
    return gains


def _gain(pool: Pool, spec: BlendSpec, cross_fitted: Probs) -> dict[str, Any] | None:
    if len(pool.names) < 2:
        return None
    best = int(BestMember(spec.metric).fit(pool.oof, pool.y).weights_.argmax())
    gain = paired_gain(spec.metric, cross_fitted, pool.names[best], pool.oof[best], pool.y, pool.groups, seed=spec.seed)
    return gain.to_json()
