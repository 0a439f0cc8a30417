"""Leaving out members that say nearly what a better one says."""

from __future__ import annotations

import numpy as np

from ensembler.blending.guards import Finding
from ensembler.blending.pool import Pool, some_rows
from ensembler.metrics import check_metric, score

_ROWS = 1000  # enough to see how far two members lie apart


def prune(pool: Pool, distance: float, metric: str) -> tuple[Pool, list[Finding]]:
    """The pool without members nearer than `distance` to a member that scores better, and what was left out.

    The distance of two members is the mean total variation of their rows: half the summed absolute difference of
    their probabilities, from 0 (the same) to 1.
    """
    sign = -1 if check_metric(metric).greater_is_better else 1
    scores = np.array([sign * score(metric, probs, pool.y) for probs in pool.oof])
    sample = np.asarray(pool.oof[:, some_rows(len(pool.y), _ROWS)], np.float32)
    kept: list[int] = []
    findings = []
    for m in np.argsort(np.nan_to_num(scores, nan=np.inf), kind="stable"):
        apart = [float(np.abs(sample[m] - sample[k]).sum(axis=1).mean() / 2) for k in kept]
        near = int(np.argmin(apart)) if apart else -1
        if apart and apart[near] < distance:
            name, twin = pool.names[m], pool.names[kept[near]]
            message = f"member {name!r} is left out: it lies {apart[near]:.3f} from the better {twin!r}"
            findings.append(Finding("pruned", name, message))
        else:
            kept.append(int(m))
    return pool.choose([pool.names[m] for m in sorted(kept)]), findings
