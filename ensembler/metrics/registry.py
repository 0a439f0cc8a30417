"""The catalogue of metrics: names, functions, and which way is better."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ensembler.errors import UnknownNameError
from ensembler.metrics import calibration, labels, multi_label, ranking
from ensembler.metrics.probabilities import brier_score, log_loss
from ensembler.metrics.renamed import refuse_renamed
from ensembler.targets.kinds import MULTI_LABEL, SINGLE_LABEL, TargetKind, kind_of

Metric = Callable[[NDArray[np.floating], NDArray[np.integer]], float]

_TOP = re.compile(r"^top_(?P<k>[1-9]\d*)_accuracy$")


@dataclass(frozen=True)
class MetricEntry:
    """A metric and whether a larger value is better."""

    compute: Metric
    greater_is_better: bool


METRICS: dict[str, MetricEntry] = {
    "accuracy": MetricEntry(labels.accuracy, True),
    "balanced_accuracy": MetricEntry(labels.balanced_accuracy, True),
    "f1_macro": MetricEntry(labels.f1_macro, True),
    "log_loss": MetricEntry(log_loss, False),
    "roc_auc_ovr": MetricEntry(ranking.roc_auc_ovr, True),
    "quadratic_kappa": MetricEntry(labels.quadratic_kappa, True),
    "unweighted_kappa": MetricEntry(labels.unweighted_kappa, True),
    "top_3_accuracy": MetricEntry(partial(ranking.top_k_accuracy, k=3), True),
    "top_5_accuracy": MetricEntry(partial(ranking.top_k_accuracy, k=5), True),
    "ece": MetricEntry(calibration.expected_calibration_error, False),
    "brier": MetricEntry(brier_score, False),
}
# Of samples with several labels at once; a name that is above means the same score of such samples.
MULTI_LABEL_METRICS: dict[str, MetricEntry] = {
    "accuracy": MetricEntry(multi_label.accuracy, True),
    "hamming_loss": MetricEntry(multi_label.hamming_loss, False),
    "f1_macro": MetricEntry(multi_label.f1_macro, True),
    "f1_micro": MetricEntry(multi_label.f1_micro, True),
    "f1_samples": MetricEntry(multi_label.f1_samples, True),
    "log_loss": MetricEntry(multi_label.log_loss, False),
    "roc_auc_ovr": MetricEntry(multi_label.roc_auc_macro, True),
    "average_precision": MetricEntry(multi_label.average_precision, True),
    "ece": MetricEntry(multi_label.expected_calibration_error, False),
    "brier": MetricEntry(multi_label.brier_score, False),
}
DEFAULT_METRICS = (
    "accuracy",
    "balanced_accuracy",
    "f1_macro",
    "log_loss",
    "roc_auc_ovr",
    "ece",
    "brier",
)


_CATALOGUES = {SINGLE_LABEL: METRICS, MULTI_LABEL: MULTI_LABEL_METRICS}


def metric_names(*, of: TargetKind | None = None) -> list[str]:
    """Names of the metrics of one kind of targets, or of all.

    `top_<k>_accuracy` exists for every k.
    """
    catalogues = _CATALOGUES.values() if of is None else [_CATALOGUES[of]]
    return list(dict.fromkeys(name for metrics in catalogues for name in metrics))


def check_metric(name: str, *, of: TargetKind | None = None) -> MetricEntry:
    """Return the metric called `name`, or raise UnknownNameError with the nearest names.

    `of` asks for one of that kind of targets; without it that of single labels comes first. A name
    that a metric had before is a RequestError that says which it has now.
    """
    refuse_renamed(name)
    for kind, metrics in _CATALOGUES.items():
        if of in (None, kind) and name in metrics:
            return metrics[name]
    top = _TOP.match(name)
    if top is not None and of is not MULTI_LABEL:
        return MetricEntry(partial(ranking.top_k_accuracy, k=int(top["k"])), True)
    is_of_another = of is not None and (name in metric_names() or top is not None)
    what = f"metric of {of.says}" if of is not None and is_of_another else "metric"
    raise UnknownNameError(what, name, metric_names(of=of))


def top_k_of(name: str) -> int | None:
    """The k of `top_<k>_accuracy`; None for another metric."""
    top = _TOP.match(name)
    return None if top is None else int(top["k"])


def score(name: str, probs: NDArray[np.floating], y: NDArray[np.integer]) -> float:
    """Score probabilities `[samples, classes]` against label indices `[samples]`.

    Of samples with several labels at once `y` is `[samples, classes]`, 1 where a sample has a
    label. NaN when the score does not exist for these labels, such as an AUC with one class
    present.
    """
    probs, y = np.asarray(probs), np.asarray(y)
    return float(check_metric(name, of=kind_of(y)).compute(probs, y))


def score_all(
    probs: NDArray[np.floating], y: NDArray[np.integer], names: Sequence[str] | None = None
) -> dict[str, float]:
    """Scores by name.

    The usual ones when none are named. A score that does not exist is left out.
    """
    y = np.asarray(y)
    usual = {SINGLE_LABEL: DEFAULT_METRICS, MULTI_LABEL: tuple(MULTI_LABEL_METRICS)}
    found = {name: score(name, probs, y) for name in names or usual[kind_of(y)]}
    return {name: value for name, value in found.items() if np.isfinite(value)}


def is_better(name: str, value: float, than: float) -> bool:
    """Whether `value` is strictly better than `than` in the metric `name`."""
    return value > than if check_metric(name).greater_is_better else value < than
