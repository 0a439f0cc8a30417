"""The catalogue of metrics: names, functions, and which way is better."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ensembler.errors import UnknownNameError
from ensembler.metrics import calibration, labels, ranking
from ensembler.metrics.probabilities import brier_score, log_loss

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
    "cohen_kappa": MetricEntry(labels.cohen_kappa, True),
    "top_3_accuracy": MetricEntry(partial(ranking.top_k_accuracy, k=3), True),
    "top_5_accuracy": MetricEntry(partial(ranking.top_k_accuracy, k=5), True),
    "ece": MetricEntry(calibration.expected_calibration_error, False),
    "brier": MetricEntry(brier_score, False),
}
DEFAULT_METRICS = ("accuracy", "balanced_accuracy", "f1_macro", "log_loss", "roc_auc_ovr", "ece", "brier")


def metric_names() -> list[str]:
    """Names of all metrics; `top_<k>_accuracy` exists for every k."""
    return list(METRICS)


def check_metric(name: str) -> MetricEntry:
    """Return the metric called `name`, or raise UnknownNameError with the nearest names."""
    if name in METRICS:
        return METRICS[name]
    top = _TOP.match(name)
    if top is None:
        raise UnknownNameError("metric", name, metric_names())
    return MetricEntry(partial(ranking.top_k_accuracy, k=int(top["k"])), True)


def score(name: str, probs: NDArray[np.floating], y: NDArray[np.integer]) -> float:
    """Score probabilities `[samples, classes]` against label indices `[samples]`.

    NaN when the score does not exist for these labels, such as an AUC with one class present.
    """
    return float(check_metric(name).compute(probs, y))


def score_all(
    probs: NDArray[np.floating], y: NDArray[np.integer], names: Sequence[str] | None = None
) -> dict[str, float]:
    """Scores by name; the usual ones when none are named. A score that does not exist is left out."""
    found = {name: score(name, probs, y) for name in names or DEFAULT_METRICS}
    return {name: value for name, value in found.items() if np.isfinite(value)}


def is_better(name: str, value: float, than: float) -> bool:
    """Whether `value` is strictly better than `than` in the metric `name`."""
    return value > than if check_metric(name).greater_is_better else value < than
