"""The families of blends that `auto` compares, and the plain blends that it is compared with.

This is the one place that prefers some methods to others. How many rows a family needs was measured
by benchmarks/auto_rule.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ensembler.blending.calibration.calibrated import Calibration
from ensembler.blending.candidate import Candidate
from ensembler.blending.pool import Pool

ROWS_FOR_LOGLINEAR = 5  # rows a member
ROWS_FOR_STACK = 2  # rows for each member and class
FEWEST_FOR_STACK = 100


def families_for(pool: Pool, metric: str, seed: int, members: int) -> list[Candidate]:
    """Families worth comparing for so many members of this pool, the ones to prefer first.

    The linear pool comes first: on few rows it is the safest there is, safer than a plain vote. A
    log-linear pool is compared from 5 rows a member, the shrunk stacks from 2 rows for each member
    and class. Votes and the best member alone come last: they are taken only when they are clearly
    better.
    """
    rows, classes = pool.n_samples, len(pool.classes)
    single = Candidate("single", {"metric": metric})
    if members == 1:
        return [single, replace(single, after="temperature")]
    found = [Candidate("simplex"), Candidate("simplex", after="temperature")]
    if metric not in ("log_loss", "brier"):
        found.append(Candidate("greedy", {"metric": metric}))
    if rows >= ROWS_FOR_LOGLINEAR * members:
        found.append(Candidate("loglinear", {"seed": seed}))
    if rows >= max(ROWS_FOR_STACK * members * classes, FEWEST_FOR_STACK):
        with_probabilities = {"seed": seed, "probabilities": True}
        found.append(Candidate("stack", {"seed": seed}))
        found.append(Candidate("stack", with_probabilities, variant="with probabilities"))
    return [*found, Candidate("geometric"), Candidate("soft"), single]


def calibrated(
    families: Iterable[Candidate], after: Calibration, before: Calibration, metric: str
) -> list[Candidate]:
    """The families between the calibrations asked for; "none" after leaves each what it has."""
    if after == before == "none":
        return list(families)
    kept = [c for c in families if after == "none" or c.after == "none"]
    return [
        replace(
            c, after=c.after if after == "none" else after, before=before, metric=metric
        )
        for c in kept
    ]


def baselines(metric: str) -> list[Candidate]:
    """What one would submit otherwise: soft voting with a temperature, and greedy selection."""
    return [
        Candidate("soft", after="temperature"),
        Candidate("greedy", {"metric": metric, "rounds": 25}),
    ]
