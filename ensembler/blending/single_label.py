"""Blending rows that have one label each."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ensembler.blending.admission import admitted
from ensembler.blending.calibration.calibrated import Calibrated
from ensembler.blending.candidate import Candidate, candidate_of
from ensembler.blending.families import baselines
from ensembler.blending.fitted import FittedBlend
from ensembler.blending.judging.automatic import NUMERICAL_FAILURES, Choice, choose
from ensembler.blending.judging.comparison import paired_gain
from ensembler.blending.judging.cross_fitting import (
    PARTS,
    cross_fit,
    fit_with_parts,
    fitting_parts,
)
from ensembler.blending.judging.guards import LEAKS, PoolFinding
from ensembler.blending.judging.insight import member_worths
from ensembler.blending.narrowing import Narrowing
from ensembler.blending.pool import Pool, Probs
from ensembler.blending.registry import BlendMethod, Fittable
from ensembler.blending.result import BlendResult, best_alone, gain_over_best, scores_of
from ensembler.blending.settings import Settings
from ensembler.blending.spec import BlendSpec
from ensembler.metrics import check_metric, score
from ensembler.metrics.calibration import reliability
from ensembler.predictions.explanation import BlendExplanation
from ensembler.progress import Progress
from ensembler.stop import Stop
from ensembler.targets.kinds import SINGLE_LABEL

Extra = TypeVar("Extra")  # what is worked out beside a blend

# Seconds for fitting blends without a member: usually, and when asked to explain.
_WORTH_SECONDS = (0.1, 30.0)


@dataclass(frozen=True)
class _Members:
    """The `pool` that is blended, out of the `whole` one where a `narrowing` chooses."""

    whole: Pool
    pool: Pool
    narrowing: Narrowing | None
    part: NDArray[np.int64]

    def maker(self, candidate: Candidate) -> Callable[[], Fittable]:
        """Makes the candidate's method for parts of the whole pool, which choose members anew."""
        return (
            candidate.make if self.narrowing is None else self.narrowing.around(candidate)
        )

    def of_kept(self, candidate: Candidate) -> Candidate:
        """The candidate for the members that are blended."""
        if self.narrowing is None:
            return candidate
        return candidate.of_members(
            [self.whole.names.index(name) for name in self.pool.names]
        )


@dataclass(frozen=True)
class _Found:
    """The candidate to fit, for the whole pool; where `auto` compared it, with what it found."""

    candidate: Candidate
    cross_fitted: NDArray[np.float64] | None = None
    correction: float = 0.0
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Fit:
    """A fitted method with its probabilities of the fitted rows, and cross-fitted ones."""

    candidate: Candidate
    method: BlendMethod
    seconds: float
    fitted: Probs
    cross_fitted: Probs


def blend_single_labels(pool: Pool, spec: BlendSpec, settings: Settings) -> BlendResult:
    """The blend of a pool whose `y` is a class index `[rows]`."""
    check_metric(spec.metric, of=SINGLE_LABEL)
    stop = Stop(settings.budget)
    pool, findings = admitted(pool, spec, settings.trust)
    members = _narrowed(pool, spec, settings.part, findings)
    if spec.method == "auto":
        found = _compared(members, spec, settings, stop, findings)
    else:
        found = _Found(candidate_of(spec, members.whole, settings.budget))
    fit = _fit(members, found, settings.progress)
    findings += _about_the_search(fit.method)
    return _result(members.pool, spec, found, fit, settings.explain, findings)


def _narrowed(
    whole: Pool,
    spec: BlendSpec,
    part: NDArray[np.int64] | None,
    findings: list[PoolFinding],
) -> _Members:
    narrowing, pool = Narrowing.of(whole, spec), whole
    if narrowing is not None:
        pool, left_out = narrowing.applied(whole)
        findings += left_out
    if part is None:
        part = fitting_parts(whole.y, whole.folds, whole.groups, seed=spec.seed)
    return _Members(whole, pool, narrowing, part)


def _compared(
    members: _Members,
    spec: BlendSpec,
    settings: Settings,
    stop: Stop,
    findings: list[PoolFinding],
) -> _Found:
    """What `auto` takes, and what it says about the candidates."""
    choice = choose(
        members.whole,
        spec,
        members.part,
        settings,
        stop=stop,
        narrowing=members.narrowing,
        narrowed=len(members.pool.names),
    )
    gains = _extra(
        "the gain over plain baselines",
        lambda: _gains_over_baselines(members, spec, choice),
        list[dict[str, Any]],
        findings,
    )
    for label, message in choice.failed.items():
        findings.append(_of_failure(f"candidate {label}", message))
    if choice.stopped_early:
        compared = ", ".join(choice.scores)
        message = f"the search was stopped; only {compared} were compared"
        findings.append(PoolFinding("stopped_early", None, message))
    details = {
        "chosen": choice.candidate.label,
        "candidates": choice.scores,
        "correction": choice.correction,
        "gains": gains,
    }
    return _Found(choice.candidate, choice.cross_fitted, choice.correction, details)


def _gains_over_baselines(
    members: _Members, spec: BlendSpec, choice: Choice
) -> list[dict[str, Any]]:
    """The gain over what one would submit otherwise."""
    whole = members.whole
    if len(whole.names) < 2:
        return []
    gains = []
    for baseline in baselines(spec.metric):
        gain = paired_gain(
            spec.metric,
            choice.cross_fitted,
            baseline.label,
            cross_fit(members.maker(baseline), whole.oof, whole.y, members.part),
            whole.y,
            whole.groups,
            seed=spec.seed,
        )
        gains.append(gain.less(abs(choice.correction)).to_json())
    return gains


def _fit(members: _Members, found: _Found, progress: Progress) -> _Fit:
    """Fit the candidate to the kept members, and cross-fit it where `auto` has not done so."""
    candidate = members.of_kept(found.candidate)
    method = candidate.make()
    is_honest = members.narrowing is None and not method.needs_fit
    fits = 1 if is_honest or found.cross_fitted is not None else 1 + PARTS
    progress.step(f"fitting {candidate.label}", 0, fits)
    started = time.perf_counter()
    fit_with_parts(method, members.pool.oof, members.pool.y, members.part)
    seconds = time.perf_counter() - started
    fitted = method.predict_proba(members.pool.oof)
    cross_fitted: Probs
    if found.cross_fitted is not None:
        cross_fitted = found.cross_fitted
    elif is_honest:
        cross_fitted = fitted
    else:
        cross_fitted = _cross_fitted(members, found.candidate, progress)
    progress.step("fitting", fits, fits)
    return _Fit(candidate, method, seconds, fitted, cross_fitted)


def _cross_fitted(
    members: _Members, candidate: Candidate, progress: Progress
) -> NDArray[np.float64]:
    step, whole = f"cross-fitting {candidate.label}", members.whole
    make = members.maker(candidate)
    return cross_fit(make, whole.oof, whole.y, members.part, progress, step)


def _about_the_search(method: BlendMethod) -> list[PoolFinding]:
    """Whether the search for the blend came to its end."""
    found = []
    if method.stopped_early_:
        message = "the search was stopped; this is the best it had found"
        found.append(PoolFinding("stopped_early", None, message))
    if not method.converged_:
        message = (
            "the search for the weights did not converge: another blend may fit better; a larger "
            "ridge helps"
        )
        found.append(PoolFinding("not_converged", None, message))
    return found


def _result(
    pool: Pool,
    spec: BlendSpec,
    found: _Found,
    fit: _Fit,
    explain: bool,
    findings: list[PoolFinding],
) -> BlendResult:
    """The blend with its predictions, its scores and what there is to say about it."""
    blend = FittedBlend(pool.names, fit.candidate, fit.method, by_fold=pool.by_fold)
    test = None if pool.test is None else blend.predict(pool.test)
    solo = np.array([score(spec.metric, probs, pool.y) for probs in pool.oof])
    details = {
        **found.details,
        **fit.method.learned(),
        "members": _worths(pool, spec.metric, fit, solo, explain, findings),
    }
    if explain:
        details |= _explanation(pool, spec.metric, fit, solo, findings)
    correction = found.correction
    return BlendResult(
        name=spec.blend_name,
        method=spec.method if spec.method == "auto" else fit.candidate.method,
        members=pool.names,
        weights=_weights_by_name(fit.method, pool.names),
        temperature=_temperature(fit.method),
        seconds=fit.seconds,
        oof=np.asarray(fit.cross_fitted, np.float32),
        fitted_oof=np.asarray(fit.fitted, np.float32),
        test=test,
        blend=blend,
        scores=scores_of(pool, spec.metric, fit.fitted, fit.cross_fitted, test, correction),
        gain=gain_over_best(pool, spec, fit.cross_fitted, solo, correction),
        warnings=tuple(
            finding.to_json() for finding in findings if _matters(finding, blend)
        ),
        details=BlendExplanation.model_validate(details),
    )


def _matters(finding: PoolFinding, blend: FittedBlend) -> bool:
    """Whether to say it: of a member that the blend does without, only that it may be leaked."""
    return finding.member not in blend.idle or finding.code in LEAKS


def _weights_by_name(method: BlendMethod, names: Sequence[str]) -> dict[str, float] | None:
    weights = method.weights_
    return None if weights is None else dict(zip(names, map(float, weights), strict=True))


def _temperature(method: BlendMethod) -> float | None:
    return method.temperature_ if isinstance(method, Calibrated) else None


def _worths(
    pool: Pool,
    metric: str,
    fit: _Fit,
    solo: NDArray[np.float64],
    explain: bool,
    findings: list[PoolFinding],
) -> list[dict[str, Any]]:
    """What each member is worth; only how good it is alone where the blends without it fail."""
    value = score(metric, np.asarray(fit.fitted), pool.y)

    def within(seconds: float) -> list[dict[str, Any]]:
        worths = member_worths(pool, metric, solo, value, fit.method, seconds=seconds)
        return [worth.to_json() for worth in worths]

    return _extra(
        "what the blend loses without a member",
        lambda: within(_WORTH_SECONDS[explain]),
        lambda: within(0.0),
        findings,
    )


def _explanation(
    pool: Pool,
    metric: str,
    fit: _Fit,
    solo: NDArray[np.float64],
    findings: list[PoolFinding],
) -> dict[str, Any]:
    """Reliability before and after, and what a cheaper blend would cost where costs are known."""
    tables = {
        "best member": pool.oof[best_alone(metric, solo)],
        "blend, fitted": fit.fitted,
        "blend, cross-fitted": fit.cross_fitted,
    }

    def explained() -> dict[str, Any]:
        shown = {name: reliability(np.asarray(p), pool.y) for name, p in tables.items()}
        return {"reliability": shown, **_frontier(pool)}

    return _extra("the explanation", explained, dict[str, Any], findings)


def _frontier(pool: Pool) -> dict[str, Any]:
    if len(pool.names) < 2 or any(name not in pool.costs for name in pool.names):
        return {}
    from ensembler.blending.cost import frontier

    return {"frontier": [point.to_json() for point in frontier(pool, pool.costs)]}


def _extra(
    what: str,
    work: Callable[[], Extra],
    otherwise: Callable[[], Extra],
    findings: list[PoolFinding],
) -> Extra:
    """What `work` gives.

    Where its numerics fail, `otherwise` and a finding: no extra takes the blend with it.
    """
    try:
        return work()
    except NUMERICAL_FAILURES as error:
        findings.append(_of_failure(what, f"{type(error).__name__}: {error}"))
        return otherwise()


def _of_failure(what: str, message: str) -> PoolFinding:
    text = f"{what} could not be computed and is left out ({message})"
    return PoolFinding("left_out_after_failure", None, text)
