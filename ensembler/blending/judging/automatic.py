"""`auto`: the safest family of blends that cross-fitting cannot tell from the best one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ensembler.blending.calibration.calibrated import Calibration
from ensembler.blending.candidate import Candidate
from ensembler.blending.families import calibrated, families_for
from ensembler.blending.judging.choosing import Contest
from ensembler.blending.judging.cross_fitting import cross_fit
from ensembler.blending.judging.judge import Judge
from ensembler.blending.methods.shared_fits import shared_fits
from ensembler.blending.narrowing import Narrowing
from ensembler.blending.pool import Pool
from ensembler.blending.settings import Settings
from ensembler.blending.spec import BlendSpec
from ensembler.errors import RequestError
from ensembler.metrics import check_metric, score
from ensembler.progress import Progress
from ensembler.stop import Stop

MANY_ROWS = 20  # rows a member
# What solvers raise on numbers they cannot take, LinAlgError among the ValueErrors; a RequestError
# is none of them.
NUMERICAL_FAILURES = (ArithmeticError, ValueError, RuntimeError, MemoryError)


@dataclass(frozen=True)
class Choice:
    """What `auto` chose: the candidate, its cross-fitted probabilities, and all scores.

    `correction` is what the choice among candidates flatters the metric by, to be taken off the
    chosen one's score; `stopped_early` says that time ran out, or Ctrl-C was pressed, before all
    were compared, and `failed` why a candidate could not be.
    """

    candidate: Candidate
    cross_fitted: NDArray[np.float64]
    scores: dict[str, float]
    correction: float
    stopped_early: bool = False
    failed: dict[str, str] = field(default_factory=dict)


def candidates_for(
    pool: Pool,
    metric: str,
    seed: int = 0,
    *,
    after: Calibration = "none",
    before: Calibration = "none",
    members: int | None = None,
) -> list[Candidate]:
    """The families of this pool that are compared, each between the calibrations asked for."""
    families = families_for(pool, metric, seed, members or len(pool.names))
    return calibrated(families, after, before, metric)


def choose(
    pool: Pool,
    spec: BlendSpec,
    part: NDArray[np.int64],
    settings: Settings,
    *,
    stop: Stop | None = None,
    narrowing: Narrowing | None = None,
    narrowed: int | None = None,
) -> Choice:
    """Cross-fit the candidates and choose the first that is as good as the best.

    They are compared by the metric of `spec`, or by the judge of `settings`, which may also name
    the candidate that was taken before: where it is among them, it is taken again. With a
    `narrowing` every part chooses its members from the whole `pool`; the blend has `narrowed` of
    them.
    """
    stop = Stop() if stop is None else stop
    judge = settings.judge or Judge(spec.metric, pool.y, pool.groups)
    members = narrowed or len(pool.names)
    candidates = candidates_for(
        pool,
        spec.metric,
        spec.seed,
        after=spec.calibrate,
        before=spec.calibrate_members,
        members=members,
    )
    candidates = [
        candidate for candidate in candidates if candidate.label == settings.chosen
    ] or candidates
    with shared_fits():
        found = _cross_fitted(pool, part, candidates, stop, settings.progress, narrowing)
    seen = [judge.see(probs) for probs in found.predictions]
    labels = [candidate.label for candidate in found.candidates]
    values = [score(judge.metric, probs, judge.y) for probs in seen]
    # On few rows the best of several is often the luckiest: it takes two standard errors to leave
    # the safe choice. On many rows the richer family that looks better is better, and waiting for a
    # whole standard error costs more.
    errors = 0.5 if pool.n_samples >= MANY_ROWS * members else 2.0
    contest = Contest.of(judge.metric, seen, judge.y, judge.groups, spec.seed)
    best = contest.first_near_best(errors)
    return Choice(
        candidate=found.candidates[best],
        cross_fitted=found.predictions[best],
        scores=dict(zip(labels, values, strict=True)),
        correction=-check_metric(judge.metric).sign * contest.optimism(errors),
        stopped_early=found.stopped_early,
        failed=found.failed,
    )


@dataclass
class _CrossFitted:
    """The candidates that could be cross-fitted, and their probabilities `[rows, classes]`."""

    candidates: list[Candidate] = field(default_factory=list)
    predictions: list[NDArray[np.float64]] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    stopped_early: bool = False


def _cross_fitted(
    pool: Pool,
    part: NDArray[np.int64],
    candidates: Sequence[Candidate],
    stop: Stop,
    progress: Progress,
    narrowing: Narrowing | None,
) -> _CrossFitted:
    """Cross-fit one candidate after the other, until there are no more or a stop is asked for."""
    found = _CrossFitted()
    for i, candidate in enumerate(candidates):
        progress.step(f"cross-fitting {candidate.label}", i, len(candidates))
        if stop and found.predictions:
            found.stopped_early = True
            break
        make = candidate.make if narrowing is None else narrowing.around(candidate)
        try:
            probs = cross_fit(make, pool.oof, pool.y, part)
        except KeyboardInterrupt:
            # Ctrl-C ends the search, not the blend: the best so far is as good as it was.
            if not found.predictions:
                raise
            stop.request("interrupted")
            found.stopped_early = True
            break
        except RequestError:
            raise
        except NUMERICAL_FAILURES as error:
            found.failed[candidate.label] = f"{type(error).__name__}: {error}"
            if i == len(candidates) - 1 and not found.predictions:
                raise
            continue
        found.predictions.append(probs)
        found.candidates.append(candidate)
    n_compared = len(found.candidates)
    progress.step("cross-fitting", n_compared, n_compared)
    return found
