"""The catalogue of metrics, and what a name of one stands for.

A name is one of ours, one that another package adds as an entry point of `ensembler.metrics` (a
function `(probs, y) -> float`, or a `Metric`), or `module:name` of the user's own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import cache, partial
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from ensembler.errors import RequestError, UnknownNameError
from ensembler.metrics import (
    calibration,
    confusion,
    labels,
    multi_label,
    probabilities,
    ranking,
)
from ensembler.metrics.metric import Metric
from ensembler.metrics.own import metric_of, own_metric
from ensembler.metrics.renamed import refuse_renamed
from ensembler.own_code import is_own
from ensembler.registry import Registry
from ensembler.targets.kinds import MULTI_LABEL, SINGLE_LABEL, TargetKind, kind_of

# Of samples with one label.
_OF_ONE_LABEL = (
    Metric(
        "accuracy",
        labels.accuracy,
        looks_at="decisions",
        row_losses=labels.errors,
        from_confusion=confusion.accuracy,
    ),
    Metric(
        "balanced_accuracy",
        labels.balanced_accuracy,
        looks_at="decisions",
        from_confusion=confusion.balanced_accuracy,
    ),
    Metric(
        "f1_macro", labels.f1_macro, looks_at="decisions", from_confusion=confusion.f1_macro
    ),
    Metric(
        "log_loss",
        probabilities.log_loss,
        greater_is_better=False,
        looks_at="probabilities",
        row_losses=probabilities.log_losses,
    ),
    Metric("roc_auc_ovr", ranking.roc_auc_ovr, looks_at="order"),
    Metric(
        "quadratic_kappa",
        labels.quadratic_kappa,
        looks_at="decisions",
        from_confusion=confusion.quadratic_kappa,
    ),
    Metric(
        "unweighted_kappa",
        labels.unweighted_kappa,
        looks_at="decisions",
        from_confusion=confusion.unweighted_kappa,
    ),
    Metric(
        "ece",
        calibration.expected_calibration_error,
        greater_is_better=False,
        looks_at="probabilities",
    ),
    Metric(
        "brier",
        probabilities.brier_score,
        greater_is_better=False,
        looks_at="probabilities",
        row_losses=probabilities.brier_losses,
    ),
)
# Of samples with several labels at once; a name that is above too is the same score of these.
_OF_LABEL_SETS = (
    Metric(
        "accuracy",
        multi_label.accuracy,
        looks_at="decisions",
        row_losses=multi_label.set_errors,
        at_cutoffs=multi_label.accuracy_at_cutoffs,
    ),
    Metric(
        "hamming_loss",
        multi_label.hamming_loss,
        greater_is_better=False,
        looks_at="decisions",
        row_losses=multi_label.hamming_losses,
        at_cutoffs=multi_label.hamming_at_cutoffs,
        label_by_label=True,
    ),
    Metric(
        "f1_macro",
        multi_label.f1_macro,
        looks_at="decisions",
        at_cutoffs=multi_label.f1_macro_at_cutoffs,
        label_by_label=True,
    ),
    Metric(
        "f1_micro",
        multi_label.f1_micro,
        looks_at="decisions",
        at_cutoffs=multi_label.f1_micro_at_cutoffs,
    ),
    Metric(
        "f1_samples",
        multi_label.f1_samples,
        looks_at="decisions",
        row_losses=multi_label.f1_losses,
        at_cutoffs=multi_label.f1_samples_at_cutoffs,
    ),
    Metric(
        "log_loss",
        multi_label.log_loss,
        greater_is_better=False,
        looks_at="probabilities",
        row_losses=multi_label.log_losses,
    ),
    Metric("roc_auc_ovr", multi_label.roc_auc_macro, looks_at="order"),
    Metric("average_precision", multi_label.average_precision, looks_at="order"),
    Metric(
        "ece",
        multi_label.expected_calibration_error,
        greater_is_better=False,
        looks_at="probabilities",
    ),
    Metric(
        "brier",
        multi_label.brier_score,
        greater_is_better=False,
        looks_at="probabilities",
        row_losses=multi_label.brier_losses,
    ),
)
_LISTED_TOP_K = (3, 5)  # of top_<k>_accuracy, which exists for every k
_TOP = re.compile(r"^top_(?P<k>[1-9]\d*)_accuracy$")
_PLUGINS = Registry("metric", "ensembler.metrics", {})
DEFAULT_METRICS = (
    "accuracy",
    "balanced_accuracy",
    "f1_macro",
    "log_loss",
    "roc_auc_ovr",
    "ece",
    "brier",
)


def _top_k(k: int) -> Metric:
    return Metric(
        f"top_{k}_accuracy",
        partial(ranking.top_k_accuracy, k=k),
        looks_at="order",
        row_losses=partial(ranking.top_k_errors, k=k),
        kinds=frozenset((SINGLE_LABEL,)),
    )


def _catalogue(kind: TargetKind, metrics: Sequence[Metric]) -> dict[str, Metric]:
    return {metric.name: replace(metric, kinds=frozenset((kind,))) for metric in metrics}


METRICS: dict[TargetKind, dict[str, Metric]] = {
    SINGLE_LABEL: _catalogue(SINGLE_LABEL, [*_OF_ONE_LABEL, *map(_top_k, _LISTED_TOP_K)]),
    MULTI_LABEL: _catalogue(MULTI_LABEL, _OF_LABEL_SETS),
}


def metric_names(*, of: TargetKind | None = None) -> list[str]:
    """Names of the metrics of one kind of targets, or of all.

    `top_<k>_accuracy` exists for every k.
    """
    catalogues = METRICS.values() if of is None else [METRICS[of]]
    ours = list(chain.from_iterable(catalogues))
    return list(dict.fromkeys([*ours, *_PLUGINS.names]))


def check_metric_name(name: str, *, of: TargetKind | None = None) -> None:
    """Raise UnknownNameError for a metric that is not there or does not fit, without importing it.

    `of` asks for one of that kind of targets. A name that a metric had before is a RequestError
    that says which it has now.
    """
    refuse_renamed(name)
    if not is_own(name):
        check_metric(name, of=of)


def check_metric(name: str | Metric, *, of: TargetKind | None = None) -> Metric:
    """Return the metric called `name`, or raise UnknownNameError with the nearest names.

    `of` asks for one of that kind of targets; without it that of single labels comes first. A
    `module:name` is imported.
    """
    if isinstance(name, Metric):
        return _fitting(name, of)
    refuse_renamed(name)
    if is_own(name):
        return _fitting(own_metric(name), of)
    found = _ours(name, of)
    if found is not None:
        return found
    if _ours(name, None) is None and name in _PLUGINS:
        return _fitting(_plugin(name), of)
    raise _unknown(name, of)


def _ours(name: str, of: TargetKind | None) -> Metric | None:
    """The metric of the catalogue; without a kind, that of single labels comes first."""
    top = _TOP.match(name)
    if top is not None and of is not MULTI_LABEL:
        return _top_k(int(top["k"]))
    catalogues = METRICS.values() if of is None else [METRICS[of]]
    found = [metrics[name] for metrics in catalogues if name in metrics]
    return found[0] if found else None


@cache
def _plugin(name: str) -> Metric:
    return metric_of(name, _PLUGINS.load(name))


def _fitting(metric: Metric, of: TargetKind | None) -> Metric:
    if of is None or of in metric.kinds:
        return metric
    raise RequestError(f"metric {metric.name!r} is not for targets with {of.says}")


def _unknown(name: str, of: TargetKind | None) -> UnknownNameError:
    is_of_another = _ours(name, None) is not None
    what = f"metric of {of.says}" if of is not None and is_of_another else "metric"
    return UnknownNameError(what, name, metric_names(of=of))


def score(name: str | Metric, probs: NDArray[np.floating], y: NDArray[np.integer]) -> float:
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

    The usual ones when none are named. A score that does not exist is left out; of a metric of the
    user's own it is a RequestError.
    """
    y = np.asarray(y)
    usual = {SINGLE_LABEL: DEFAULT_METRICS, MULTI_LABEL: tuple(METRICS[MULTI_LABEL])}
    found = {name: reported_score(name, probs, y) for name in names or usual[kind_of(y)]}
    return {name: value for name, value in found.items() if np.isfinite(value)}


def reported_score(
    name: str | Metric, probs: NDArray[np.floating], y: NDArray[np.integer]
) -> float:
    """The score that a table shows; RequestError where a user's own metric gives no number."""
    value = score(name, probs, y)
    if is_own(name) and not np.isfinite(value):
        raise RequestError(
            f"metric {name!r} returned {value} for {len(y)} samples; expected a finite number"
        )
    return value


def row_losses(
    name: str | Metric, probs: NDArray[np.floating], y: NDArray[np.integer]
) -> NDArray[np.float64] | None:
    """The loss of each sample `[samples]`, lower being better; None for a metric that is no mean.

    The metric is the mean of these losses, or one minus it.
    """
    metric = check_metric(name, of=kind_of(y))
    return None if metric.row_losses is None else metric.row_losses(probs, y)


def decision_metrics(of: TargetKind) -> list[str]:
    """Names of our metrics that look at decisions alone: what biases and thresholds suit."""
    return [
        metric.name for metric in METRICS[of].values() if metric.looks_at == "decisions"
    ]


def fits(name: str, *, of: TargetKind) -> bool:
    """Whether there is such a metric for targets of this kind; a `module:name` is imported."""
    if is_own(name):
        return of in own_metric(name).kinds
    if _ours(name, None) is None and name in _PLUGINS:
        return of in _plugin(name).kinds
    return _ours(name, of) is not None


def may_move_decisions(name: str) -> bool:
    """Whether biases or thresholds can be fitted to a metric, for one kind of target at least.

    False for a name that is not there; nothing of the user's own is asked for.
    """
    if _ours(name, None) is None and name in _PLUGINS:
        return _plugin(name).may_move_decisions
    found = [_ours(name, kind) for kind in METRICS]
    return any(metric is not None and metric.may_move_decisions for metric in found)


def is_better(name: str | Metric, value: float, than: float) -> bool:
    """Whether `value` is strictly better than `than` in the metric `name`."""
    return check_metric(name).is_better(value, than)
