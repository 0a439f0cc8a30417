"""Scores of samples with any number of labels at once, as scikit-learn defines them for indicators.

Probabilities and truth are `[samples, classes]`, the truth 0 or 1; a label counts as given from a
probability of 0.5. Where F1 is not defined, `f1_macro` leaves the label out and `f1_samples` counts
the sample as right. The functions `*_at_cutoffs` are what thresholds are searched with: see
`Metric.at_cutoffs`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ensembler.logits import FLOOR
from ensembler.metrics import calibration, ranking
from ensembler.metrics.metric import Decisions, Labels, Losses, Probs, Values

Order = NDArray[np.int64]  # `[samples]`: in which order samples are given a label


def accuracy(probs: Probs, y: Labels) -> float:
    """Share of samples whose whole set of labels is right (subset accuracy)."""
    return float(((probs >= 0.5) == (y == 1)).all(axis=1).mean())


def set_errors(probs: Probs, y: Labels) -> Losses:
    """1 for each sample whose set of labels is not wholly right, else 0 `[samples]`."""
    return ((probs >= 0.5) != (y == 1)).any(axis=1).astype(np.float64)


def hamming_loss(probs: Probs, y: Labels) -> float:
    """Share of labels, over all samples and classes, that are decided wrong."""
    return float(((probs >= 0.5) != (y == 1)).mean())


def hamming_losses(probs: Probs, y: Labels) -> Losses:
    """The share of each sample's labels that are decided wrong `[samples]`."""
    return np.asarray(((probs >= 0.5) != (y == 1)).mean(axis=1))


def f1_macro(probs: Probs, y: Labels) -> float:
    """Unweighted mean of the F1 of each label that occurs in `y` or among the decisions.

    NaN when none does.
    """
    hits, sizes = _hits_and_sizes(probs, y, axis=0)
    present = sizes > 0
    if not present.any():
        return float("nan")
    return float((2 * hits[present] / sizes[present]).mean())


def f1_samples(probs: Probs, y: Labels) -> float:
    """Mean over samples of the F1 of their sets.

    A sample without a label that is given none counts as right.
    """
    return float(_f1_of_samples(probs, y).mean())


def f1_losses(probs: Probs, y: Labels) -> Losses:
    """One minus the F1 of each sample's set `[samples]`."""
    return 1 - _f1_of_samples(probs, y)


def f1_micro(probs: Probs, y: Labels) -> float:
    """F1 of all labels of all samples in one; NaN when there is none and none is given."""
    hits, sizes = (part.sum() for part in _hits_and_sizes(probs, y, axis=0))
    return float(2 * hits / sizes) if sizes else float("nan")


def log_loss(probs: Probs, y: Labels) -> float:
    """Mean binary cross entropy over samples and labels, in nats.

    Probabilities are kept 1e-7 away from 0 and 1.
    """
    return float(label_losses(probs, y).mean())


def log_losses(probs: Probs, y: Labels) -> Losses:
    """The mean binary cross entropy of each sample's labels `[samples]`."""
    return np.asarray(label_losses(probs, y).mean(axis=1))


def label_losses(probs: Probs, y: Labels) -> NDArray[np.float64]:
    """The binary cross entropy of each label `[samples, classes]`."""
    right = np.where(y == 1, probs, 1 - np.asarray(probs, np.float64))
    losses: NDArray[np.float64] = -np.log(np.clip(right, FLOOR, None))
    return losses


def brier_score(probs: Probs, y: Labels) -> float:
    """Mean over samples and labels of the Brier score of two answers, yes and no, in [0, 2]."""
    return float(2 * np.square(np.asarray(probs, np.float64) - y).mean())


def brier_losses(probs: Probs, y: Labels) -> Losses:
    """The mean Brier score of each sample's labels `[samples]`."""
    return np.asarray(2 * np.square(np.asarray(probs, np.float64) - y).mean(axis=1))


def roc_auc_macro(probs: Probs, y: Labels) -> float:
    """Mean over labels of the area under the ROC curve.

    Labels that all or no samples have are left out; NaN when none is left.
    """
    areas = [ranking.area(probs[:, c], y[:, c] == 1) for c in _decided(y)]
    return float(np.mean(areas)) if areas else float("nan")


def average_precision(probs: Probs, y: Labels) -> float:
    """Mean over labels of the average precision (mAP).

    Labels that all or no samples have are left out; NaN when none is left.
    """
    found = [ranking.average_precision(probs[:, c], y[:, c] == 1) for c in _decided(y)]
    return float(np.mean(found)) if found else float("nan")


def expected_calibration_error(probs: Probs, y: Labels) -> float:
    """The calibration error of all labels of all samples as answers of yes or no.

    See `calibration.expected_calibration_error` (Guo et al., 2017).
    """
    yes = np.asarray(probs, np.float64).ravel()
    return calibration.expected_calibration_error(
        np.stack([1 - yes, yes], axis=1), y.ravel()
    )


def f1_macro_at_cutoffs(
    _given: Decisions, truth: Decisions, label: int, order: Order
) -> Values:
    """The F1 of `label` when the first 0, 1, 2, ... samples of `order` are given it."""
    hits, count, n_having = _label_counts(truth, label, order)
    return np.asarray(2 * hits / (count + n_having))


def hamming_at_cutoffs(
    _given: Decisions, truth: Decisions, label: int, order: Order
) -> Values:
    """Right minus wrong decisions on `label`, up to a constant."""
    hits, count, _ = _label_counts(truth, label, order)
    return np.asarray(2.0 * hits - count)


def f1_micro_at_cutoffs(
    given: Decisions, truth: Decisions, label: int, order: Order
) -> Values:
    """The F1 of all labels of all samples in one."""
    hits, count, n_having = _label_counts(truth, label, order)
    others = _other_labels(given, truth, label)
    n_hits = others[0].sum() + hits
    n_labels = others[1].sum() + count + n_having
    return np.asarray(2 * n_hits / n_labels, np.float64)


def accuracy_at_cutoffs(
    given: Decisions, truth: Decisions, label: int, order: Order
) -> Values:
    """How many sets of labels are wholly right, up to a constant."""
    others_are_right = np.delete(given == truth, label, axis=1).all(axis=1)
    right_with = others_are_right & truth[:, label]
    right_without = others_are_right & ~truth[:, label]
    return _summed(right_with.astype(np.float64) - right_without, order)


def f1_samples_at_cutoffs(
    given: Decisions, truth: Decisions, label: int, order: Order
) -> Values:
    """The summed F1 of the samples' sets, up to a constant."""
    hits, others = _other_labels(given, truth, label)
    n_labels = others + truth[:, label]
    f1_with = 2 * (hits + truth[:, label]) / (n_labels + 1)
    f1_without = np.where(n_labels > 0, 2 * hits / np.maximum(n_labels, 1), 1.0)
    return _summed(f1_with - f1_without, order)


def _label_counts(
    truth: Decisions, label: int, order: Order
) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """Right ones among the first 0, 1, 2, ... samples, those, and how many have the label."""
    has = truth[:, label]
    hits = np.concatenate([[0], np.cumsum(has[order])])
    return hits, np.arange(len(order) + 1), int(has.sum())


def _other_labels(
    given: Decisions, truth: Decisions, label: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Of the labels beside `label`, each sample's right ones, and those given plus those it has."""
    others_given, others_true = (
        np.delete(given, label, axis=1),
        np.delete(truth, label, axis=1),
    )
    hits = (others_given & others_true).sum(axis=1)
    return hits, others_given.sum(axis=1) + others_true.sum(axis=1)


def _summed(change: NDArray[np.float64], order: Order) -> Values:
    """What the first 0, 1, 2, ... samples of `order` change together."""
    return np.concatenate([[0.0], np.cumsum(change[order])])


def _f1_of_samples(probs: Probs, y: Labels) -> NDArray[np.float64]:
    hits, sizes = _hits_and_sizes(probs, y, axis=1)
    return np.where(sizes > 0, 2 * hits / np.maximum(sizes, 1), 1.0)


def _decided(y: Labels) -> list[int]:
    """The labels that some samples have and others have not."""
    counts = (y == 1).sum(axis=0)
    return np.flatnonzero((counts > 0) & (counts < len(y))).tolist()


def _hits_and_sizes(
    probs: Probs, y: Labels, axis: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    given, wanted = probs >= 0.5, y == 1
    return (given & wanted).sum(axis=axis), given.sum(axis=axis) + wanted.sum(axis=axis)
