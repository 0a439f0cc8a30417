"""Names of heads, and the classes behind them."""

from __future__ import annotations

from ensembler.own_code import is_own
from ensembler.registry import Registry

HEADS = Registry(
    "head",
    "ensembler.heads",
    {
        "logistic": "ensembler.estimators.linear:Logistic",
        "lda": "ensembler.estimators.linear:Discriminant",
        "ridge": "ensembler.estimators.linear:Ridge",
        "mlp": "ensembler.estimators.linear:Perceptron",
        "trees": "ensembler.estimators.trees:Trees",
        "knn": "ensembler.estimators.neighbours:Neighbours",
        "lightgbm": "ensembler.estimators.boosting:LightGBM",
    },
)


def check_head(name: str) -> str:
    """Return the name of a head, one's own among them, or raise UnknownNameError."""
    return name if is_own(name) else HEADS.check(name)
