"""By how much one prediction of the train rows is better than another, where both predict."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ensembler.blending.judging.comparison import Gain, paired_gain
from ensembler.metrics import metric_names
from ensembler.predictions.blends import BlendRecord
from ensembler.predictions.store import RunStore
from ensembler.targets.label_sets import is_known


def gain_on_shared_rows(
    store: RunStore,
    of: BlendRecord,
    metric: str,
    probs: NDArray[np.floating],
    over: str,
    baseline: NDArray[np.floating],
) -> Gain | None:
    """By how much `probs` `[train rows, classes]` is better than `baseline`, called `over`.

    Both are of the target and the classes of the blend `of`; rows that are not predicted are NaN.
    None without a labelled row that both predict, or for a metric of another kind of targets.
    """
    of_other_kinds = set(metric_names()) - set(metric_names(of=store.kind(of.target)))
    if metric in of_other_kinds:
        return None
    labels = store.labels(of.target, "train", of.classes)
    is_predicted = np.isfinite(probs).all(axis=1) & np.isfinite(baseline).all(axis=1)
    rows = np.flatnonzero(is_predicted & is_known(labels))
    if not len(rows):
        return None
    groups = store.samples.groups()
    groups = None if groups is None else groups[rows]
    return paired_gain(metric, probs[rows], over, baseline[rows], labels[rows], groups)
