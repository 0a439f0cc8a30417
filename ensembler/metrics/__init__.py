"""Scores of probabilities against labels, by the names scikit-learn gives them.

`score("log_loss", probs, y)` takes probabilities `[samples, classes]` and label indices
`[samples]`, or of samples with several labels at once `[samples, classes]` of zeros and ones.
"""

from ensembler.metrics.registry import check_metric, is_better, metric_names, score, score_all

__all__ = ["check_metric", "is_better", "metric_names", "score", "score_all"]
