"""Blending rows that have one label each."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ensembler.blending.calibration.calibrated import Calibrated
from ensembler.blending.candidate import Candidate
from ensembler.blending.judging.automatic import NUMERICAL_FAILURES, Choice, Judge, choose
from ensembler.blending.judging.comparison import paired_gain
from ensembler.blending.judging.cross_fitting import PARTS, cross_fit, fit_with_parts, fitting_parts
from ensembler.blending.judging.guards import Finding, look_at, suspected
from ensembler.blending.judging.insight import member_worths
from ensembler.blending.judging.remarks import remarks_on
from ensembler.blending.narrowing import Narrowing
from ensembler.blending.pool import Pool, Probs
from ensembler.blending.registry import BLEND_METHODS, BlendMethod, accepts
from ensembler.blending.result import BlendResult, best_alone, gain_over_best, scores_of
from ensembler.blending.spec import BlendSpec
from ensembler.errors import RequestError, UnknownNameError
from ensembler.metrics import check_metric, score
from ensembler.metrics.calibration import reliability
from ensembler.predictions.explanation import BlendExplanation
from ensembler.progress import QUIET, Progress
from ensembler.stop import Stop
from ensembler.targets.kinds import SINGLE_LABEL

Extra = TypeVar("Extra")  # what is worked out beside a blend

# Methods that need no probabilities of a member, only its vote.
TAKES_VOTES = ("hard", "stack")
# In these a member of weight zero does not move the others.
_LINEAR = ("simplex", "greedy", "weights", "single")
_WORTH_SECONDS = (
    0.1,
    30.0,
)  # for fitting blends without a member: usually, and when asked to explain
# Nothing is fitted in these: their cross-fitted predictions are the plain ones.
UNFITTED = ("soft", "hard", "geometric", "power", "median", "trimmed_mean", "rank", "weights")


def blend_single_labels(
    pool: Pool,
    spec: BlendSpec,
    *,
    trust: Sequence[str] = (),
    budget: float | None = None,
    explain: bool = False,
    progress: Progress = QUIET,
    part: NDArray[np.int64] | None = None,
    judge: Judge | None = None,
    chosen: str | None = None,
) -> BlendResult:
    """The blend of a pool whose `y` is a class index `[rows]`.

    The arguments are those of `make_blend`.
    """
    check_metric(spec.metric, of=SINGLE_LABEL)
    stop = Stop(budget)
    pool, findings = _with_probabilities(pool, spec)
    findings += look_at(pool)
    if pool.rows_each == 1:
        findings += remarks_on(pool, spec)
    if spec.method == "auto":
        pool = _without_leaks(pool, findings, trust)
    whole, narrowing = pool, Narrowing.of(pool, spec)
    if narrowing is not None:
        pool, left_out = narrowing.applied(whole)
        findings += left_out
    if part is None:
        part = fitting_parts(pool.y, pool.folds, pool.groups, seed=spec.seed)
    details: dict[str, Any] = {}
    cross_fitted: Probs | None = None
    correction = 0.0
    if spec.method == "auto":
        choice = choose(
            whole,
            spec.metric,
            part,
            seed=spec.seed,
            after=spec.calibrate,
            before=spec.calibrate_members,
            stop=stop,
            progress=progress,
            judge=judge,
            narrowing=narrowing,
            narrowed=len(pool.names),
            chosen=chosen,
        )
        candidate, cross_fitted, correction = (
            choice.candidate,
            choice.cross_fitted,
            choice.correction,
        )
        details = {
            "chosen": candidate.label,
            "candidates": choice.scores,
            "correction": correction,
            "gains": _extra(
                "the gain over plain baselines",
                lambda: _gains_over_baselines(whole, narrowing, spec, part, choice),
                list[dict[str, Any]],
                findings,
            ),
        }
        findings += [
            _of_failure(f"candidate {label}", message) for label, message in choice.failed.items()
        ]
        if choice.stopped_early:
            compared = ", ".join(choice.scores)
            findings.append(
                Finding(
                    "stopped_early", None, f"the search was stopped; only {compared} were compared"
                )
            )
    else:
        candidate = _candidate(spec, whole, budget)
    make, is_plain = candidate.make, _is_unfitted(candidate) and narrowing is None
    if narrowing is not None:
        make = narrowing.around(candidate)
        candidate = candidate.of_members([whole.names.index(name) for name in pool.names])
    fits = 1 if cross_fitted is not None or is_plain else 1 + PARTS
    progress.step(f"fitting {candidate.label}", 0, fits)
    started = time.perf_counter()
    method = fit_with_parts(candidate.make(), pool.oof, pool.y, part)
    seconds = time.perf_counter() - started
    findings += _about_the_fit(method)
    fitted = method.predict_proba(pool.oof)
    if cross_fitted is None:
        cross_fitted = fitted
        if not is_plain:
            label = f"cross-fitting {candidate.label}"
            cross_fitted = cross_fit(make, whole.oof, whole.y, part, progress, label)
    progress.step("fitting", fits, fits)
    test = _predict_test(method, pool)
    solo = np.array([score(spec.metric, probs, pool.y) for probs in pool.oof])
    details |= _learned(method)
    honest = cross_fitted

    def worths(seconds: float) -> list[dict[str, Any]]:
        return _worths(pool, spec, candidate, method, solo, fitted, seconds=seconds)

    seconds_for_worths = _WORTH_SECONDS[explain]
    details["members"] = _extra(
        "what the blend loses without a member",
        lambda: worths(seconds_for_worths),
        lambda: worths(0.0),
        findings,
    )
    if explain:
        explanation = _extra(
            "the explanation",
            lambda: _explanation(pool, solo, spec.metric, fitted, honest),
            dict[str, Any],
            findings,
        )
        details |= explanation
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
        scores=scores_of(pool, spec.metric, fitted, cross_fitted, test, correction),
        gain=gain_over_best(pool, spec, cross_fitted, solo, correction),
        warnings=tuple(finding.to_json() for finding in findings),
        details=BlendExplanation.model_validate(details),
    )


def _extra(
    what: str, work: Callable[[], Extra], otherwise: Callable[[], Extra], findings: list[Finding]
) -> Extra:
    """What `work` gives.

    Where its numerics fail, `otherwise` and a finding: no extra takes the blend with it.
    """
    try:
        return work()
    except NUMERICAL_FAILURES as error:
        findings.append(_of_failure(what, f"{type(error).__name__}: {error}"))
        return otherwise()


def _of_failure(what: str, message: str) -> Finding:
    return Finding(
        "left_out_after_failure", None, f"{what} could not be computed and is left out ({message})"
    )


def _about_the_fit(method: BlendMethod) -> list[Finding]:
    """Whether the search for the blend came to its end."""
    inner = method.method if isinstance(method, Calibrated) else method
    found = []
    if getattr(inner, "stopped_early_", False):
        found.append(
            Finding("stopped_early", None, "the search was stopped; this is the best it had found")
        )
    if not getattr(inner, "converged_", True):
        message = "the search for the weights did not converge: another blend may fit better; a larger ridge helps"
        found.append(Finding("not_converged", None, message))
    return found


def _is_unfitted(candidate: Candidate) -> bool:
    return candidate.method in UNFITTED and candidate.after == candidate.before == "none"


def _worths(
    pool: Pool,
    spec: BlendSpec,
    candidate: Candidate,
    method: BlendMethod,
    solo: NDArray[np.float64],
    fitted: Probs,
    *,
    seconds: float,
) -> list[dict[str, Any]]:
    worths = member_worths(
        pool,
        spec.metric,
        solo,
        score(spec.metric, np.asarray(fitted), pool.y),
        method.weights_,
        lambda kept: _without(candidate, method, kept),
        idle_is_worthless=candidate.method in _LINEAR and candidate.before == "none",
        seconds=seconds,
    )
    return [worth.to_json() for worth in worths]


def _explanation(
    pool: Pool, solo: NDArray[np.float64], metric: str, fitted: Probs, cross_fitted: Probs
) -> dict[str, Any]:
    """Reliability before and after, and what a cheaper blend would cost in score where costs are known."""
    best = pool.oof[best_alone(metric, solo)]
    tables = {"best member": best, "blend, fitted": fitted, "blend, cross-fitted": cross_fitted}
    found: dict[str, Any] = {
        "reliability": {name: reliability(np.asarray(p), pool.y) for name, p in tables.items()}
    }
    if len(pool.names) > 1 and all(name in pool.costs for name in pool.names):
        from ensembler.blending.cost import frontier

        found["frontier"] = [offer.to_json() for offer in frontier(pool, pool.costs)]
    return found


def _with_probabilities(pool: Pool, spec: BlendSpec) -> tuple[Pool, list[Finding]]:
    """The pool without members that only vote, unless the method takes votes."""
    voters = [name for name in pool.names if name in pool.votes_only]
    if not voters or spec.method in TAKES_VOTES:
        return pool, []
    wanted = set(spec.members or ())
    if isinstance(spec.weights, dict):
        wanted |= {name for name, weight in spec.weights.items() if weight > 0}
    kept = [name for name in pool.names if name not in voters]
    asked = [name for name in voters if name in wanted]
    if asked or not kept:
        raise RequestError(
            f"member {(asked or voters)[0]!r} only votes and has no probabilities; --method hard "
            "or stack takes it"
        )
    message = "only votes: it has no probabilities to blend and is left out; --method hard or stack takes it"
    return pool.choose(kept), [
        Finding("votes_only", name, f"member {name!r} {message}") for name in voters
    ]


def _without(candidate: Candidate, method: BlendMethod, kept: Sequence[int]) -> BlendMethod:
    """The candidate's method for the members at `kept`; strengths stay as they were found."""
    inner: Any = method.method if isinstance(method, Calibrated) else method
    options = dict(candidate.options)
    for option, learned in (("ridge", "ridge_"), ("shrinkage", "shrinkage_")):
        if hasattr(inner, learned):
            options[option] = getattr(inner, learned)
    if candidate.method == "stack" and hasattr(inner, "pool_"):
        options["ridge"] = inner.pool_.ridge_
    return replace(candidate, options=options).of_members(kept).make()


def _without_leaks(pool: Pool, findings: Sequence[Finding], trust: Sequence[str]) -> Pool:
    unknown = [name for name in trust if name not in pool.names]
    if unknown:
        raise UnknownNameError("member to trust", unknown[0], pool.names)
    out = set(suspected(findings)) - set(trust)
    kept = [name for name in pool.names if name not in out]
    return pool.choose(kept) if out and kept else pool


def _candidate(spec: BlendSpec, pool: Pool, budget: float | None) -> Candidate:
    BLEND_METHODS.check(spec.method)
    options = dict(spec.options)
    for name, value in (("metric", spec.metric), ("seed", spec.seed)):
        if accepts(spec.method, name):
            options.setdefault(name, value)
    if (
        spec.method == "simplex"
        and options.get("metric") not in ("log_loss", "brier")
        and "metric" not in spec.options
    ):
        options["metric"] = "log_loss"
    if budget is not None and accepts(spec.method, "time_limit"):
        options.setdefault(
            "time_limit", budget / (1 + PARTS)
        )  # one search is the blend, the others its honest score
    if options.get("inputs") == "logits":
        raise RequestError(
            "option inputs=logits: the members of a run are blended by their probabilities; leave "
            "it out"
        )
    if spec.method == "weights":
        options["weights"] = _weights_in_order(spec, pool)
    candidate = Candidate(spec.method, options, spec.calibrate, spec.calibrate_members, spec.metric)
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
        raise RequestError(
            f"{len(values)} weights for {len(pool.names)} members: {', '.join(pool.names)}"
        )
    return values


def _predict_test(method: BlendMethod, pool: Pool) -> NDArray[np.float32] | None:
    if pool.test is None:
        return None
    if pool.test[0].shape[1] == 0:
        return np.empty((0, len(pool.classes)), np.float32)
    folds = [np.asarray(method.predict_proba(stack), np.float64) for stack in pool.test_stacks()]
    return np.asarray(sum(folds) / len(folds), np.float32)


def _weights(method: BlendMethod, pool: Pool) -> dict[str, float] | None:
    weights = method.weights_
    return None if weights is None else dict(zip(pool.names, map(float, weights), strict=True))


def _learned(method: BlendMethod) -> dict[str, Any]:
    """What a method learned beside weights, as plain values."""
    inner = method.method if isinstance(method, Calibrated) else method
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
    if isinstance(method, Calibrated) and method.biases_ is not None:
        found["class_biases"] = method.biases_.tolist()
    picks = getattr(inner, "picks_", None)
    if picks:
        found["trajectory"] = [[pick.member, pick.value] for pick in picks]
    return found


def _gains_over_baselines(
    pool: Pool,
    narrowing: Narrowing | None,
    spec: BlendSpec,
    part: NDArray[np.int64],
    choice: Choice,
) -> list[dict[str, Any]]:
    """The gain over what one would otherwise hand in: soft voting with a temperature, and greedy selection."""
    if len(pool.names) < 2:
        return []
    baselines = [
        Candidate("soft", after="temperature"),
        Candidate("greedy", {"metric": spec.metric, "rounds": 25}),
    ]
    gains = []
    for baseline in baselines:
        make = baseline.make if narrowing is None else narrowing.around(baseline)
        theirs = cross_fit(make, pool.oof, pool.y, part)
        gain = paired_gain(
            spec.metric,
            choice.cross_fitted,
            baseline.label,
            theirs,
            pool.y,
            pool.groups,
            seed=spec.seed,
        )
        gains.append(gain.less(abs(choice.correction)).to_json())
    return gains
