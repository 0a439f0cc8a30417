"""Scores of probabilities against labels, by the names scikit-learn gives them where it has them.

`score("log_loss", probs, y)` takes probabilities `[samples, classes]` and label indices
`[samples]`, or of samples with several labels at once `[samples, classes]` of zeros and ones.
`score("mine:skill", probs, y)` computes a function of the user's own.
"""

from ensembler.metrics.metric import Metric
from ensembler.metrics.registry import (
    check_metric,
    check_metric_name,
    is_better,
    metric_names,
    row_losses,
    score,
    score_all,
)
from ensembler.targets.kinds import MULTI_LABEL, SINGLE_LABEL

__all__ = [
    "MULTI_LABEL",
    "SINGLE_LABEL",
    "Metric",
    "check_metric",
    "check_metric_name",
    "is_better",
    "metric_names",
    "row_losses",
    "score",
    "score_all",
]
