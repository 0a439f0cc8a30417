"""Blending samples with several labels at once.

Every label of every row becomes a row of its own, with the classes no and yes. All methods,
calibrations and guards then work as they are, and one set of weights serves all labels. A metric
that is no mean over labels finds no weights: they are searched by log loss. It chooses among the
families that `auto` compares, and `calibrate: biases` fits a threshold for each label to it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensembler.blending.calibration.label_thresholds import (
    cross_fitted_thresholds,
    fit_thresholds,
    move_to_half,
)
from ensembler.blending.judging.cross_fitting import fitting_parts
from ensembler.blending.judging.judge import Judge
from ensembler.blending.judging.remarks import remarks_on
from ensembler.blending.pool import Pool
from ensembler.blending.result import BlendResult, gain_over_best, scores_of
from ensembler.blending.settings import Settings
from ensembler.blending.single_label import blend_single_labels
from ensembler.blending.spec import BlendSpec
from ensembler.blending.yes_or_no import one_column, two_columns
from ensembler.metrics import check_metric, score
from ensembler.targets.kinds import MULTI_LABEL

# means over labels, which mean the same of a row of yes and no
SEARCHED = ("log_loss", "brier")


def yes_or_no(pool: Pool) -> Pool:
    """The pool with a row of two classes, no and yes, for each label of each row.

    Its rows are `[rows x classes]`. The labels of a row, or of a group, are one group: bootstraps
    draw them and cross-fitting leaves them out together. Searches inside a method (a ridge, a
    shrinkage) draw single labels.
    """
    rows, labels = pool.y.shape
    groups = np.arange(rows) if pool.groups is None else pool.groups
    return replace(
        pool,
        oof=two_columns(pool.oof),
        y=pool.y.ravel(),
        classes=("no", "yes"),
        folds=np.repeat(pool.folds, labels),
        groups=np.repeat(groups, labels),
        test=None if pool.test is None else tuple(two_columns(test) for test in pool.test),
        test_y=None if pool.test_y is None else pool.test_y.ravel(),
        rows_each=labels,
    )


def blend_label_sets(
    pool: Pool,
    spec: BlendSpec,
    settings: Settings,
) -> BlendResult:
    """The blend of a pool whose `y` is 0 or 1 `[rows, classes]`.

    Thresholds are cross-fitted on a row's other parts,
    on predictions whose weights, but not thresholds, may have seen the row.
    """
    check_metric(spec.metric, of=MULTI_LABEL)
    labels = pool.y.shape[1]
    part = settings.part
    if part is None:
        part = fitting_parts(_rarest(pool.y), pool.folds, pool.groups, seed=spec.seed)
    searched = spec.metric if spec.metric in SEARCHED else "log_loss"
    changes: dict[str, Any] = {"metric": searched}
    if spec.calibrate == "biases":
        changes["calibrate"] = "none"

    def with_thresholds(probs: NDArray[np.floating]) -> NDArray[np.float64]:
        """Cross-fitted probabilities as they are decided on."""
        if spec.calibrate != "biases":
            return np.asarray(probs, np.float64)
        return cross_fitted_thresholds(probs, pool.y, spec.metric, part)

    of_labels = Judge(
        spec.metric,
        pool.y,
        pool.groups,
        lambda probs: with_thresholds(one_column(probs, labels)),
    )
    found = blend_single_labels(
        yes_or_no(pool),
        spec.model_copy(update=changes),
        replace(settings, part=np.repeat(part, labels), judge=settings.judge or of_labels),
    )
    oof, fitted = (one_column(probs, labels) for probs in (found.oof, found.fitted_oof))
    details = found.details.model_copy(update={"searched_by": searched})
    correction = details.correction or 0.0
    members = pool.choose(found.members)
    # A member that is compared with the blend gets thresholds of its own too.
    alone = np.stack([with_thresholds(probs) for probs in members.oof])
    thresholds: NDArray[np.float64] | None = None
    if spec.calibrate == "biases":
        # On cross-fitted predictions: those of the rows it was fitted on are more certain than any
        # others.
        thresholds = fit_thresholds(oof, pool.y, spec.metric)
        by_label = dict(zip(pool.classes, thresholds.tolist(), strict=True))
        details = details.model_copy(update={"thresholds": by_label})
        oof, fitted = with_thresholds(oof), move_to_half(fitted, thresholds)
    assert found.blend is not None
    blend = replace(found.blend, labels=labels, thresholds=thresholds)
    test = None if found.test is None else blend.decided(found.test)
    solo = np.array([score(spec.metric, probs, pool.y) for probs in alone])
    return replace(
        found,
        warnings=(
            *found.warnings,
            *(remark.to_json() for remark in remarks_on(pool, spec)),
        ),
        oof=np.asarray(oof, np.float32),
        fitted_oof=np.asarray(fitted, np.float32),
        blend=blend,
        test=test,
        scores=scores_of(pool, spec.metric, fitted, oof, test, correction),
        gain=gain_over_best(replace(members, oof=alone), spec, oof, solo, correction),
        details=details,
    )


def _rarest(y: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each row the position of the rarest label it has, counted from 1; 0 when it has none."""
    sizes = y.sum(axis=0)
    return np.where(
        y.any(axis=1), np.where(y == 1, sizes, len(y) + 1).argmin(axis=1) + 1, 0
    )
