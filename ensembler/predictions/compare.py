"""How far the logits of one fold are from those of another training of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ensembler.metrics import score
from ensembler.predictions.merging import merge_views
from ensembler.targets.kinds import Labels, TargetKind
from ensembler.targets.label_sets import is_known


@dataclass(frozen=True)
class FoldLogits:
    """A fold's logits: of its validation rows and of the test rows, `[views, rows, classes]`."""

    oof: NDArray[np.floating]
    test: NDArray[np.floating]


@dataclass(frozen=True)
class LogitDifference:
    """How far two sets of logits are apart.

    `max_difference` is of logits, `mean_difference` of probabilities (the share of a row's that
    moved, on average), `other_labels` the share of rows whose decision is another. The log losses
    are out of fold; None without labels.
    """

    is_identical: bool
    max_difference: float
    mean_difference: float
    other_labels: float
    log_loss_then: float | None
    log_loss_now: float | None


def compare_logits(
    then: FoldLogits, now: FoldLogits, labels: Labels, of: TargetKind
) -> LogitDifference:
    """Compare logits of the same rows and views; `labels` are those of the validation rows."""
    parts = ((then.oof, now.oof), (then.test, now.test))
    moved, other, largest = [], [], 0.0
    for before, after in parts:
        if not before.size:
            continue
        largest = max(largest, float(np.abs(after - before).max()))
        probs = merge_views(before, of=of), merge_views(after, of=of)
        moved.append(of.moved(*probs))
        other.append(of.decides_otherwise(*probs))
    known = is_known(labels)
    losses = [
        score("log_loss", merge_views(logits.oof[:, known], of=of), labels[known])
        if known.any()
        else None
        for logits in (then, now)
    ]
    return LogitDifference(
        all(np.array_equal(before, after) for before, after in parts),
        largest,
        float(np.concatenate(moved).mean()) if moved else 0.0,
        float(np.concatenate(other).mean()) if other else 0.0,
        *losses,
    )
