"""What to say of a request before it is blended: what its figures mean on these rows."""

from __future__ import annotations

import numpy as np

from ensembler.blending.judging.guards import PoolFinding
from ensembler.blending.pool import Pool
from ensembler.blending.registry import method_class
from ensembler.blending.spec import BlendSpec
from ensembler.targets.label_sets import is_known

FEW_GROUPS = 20  # below this a group more or less moves an interval by itself
_NAMED = 5  # classes that a message lists


def remarks_on(pool: Pool, spec: BlendSpec) -> list[PoolFinding]:
    """Findings about the pool as a whole and about what `spec` asks of it."""
    return [
        *_few_groups(pool),
        *_absent_classes(pool),
        *_ordered_classes(pool, spec),
        *_ranks(pool, spec),
    ]


def few_groups(n_groups: int | None) -> PoolFinding | None:
    """The warning about intervals over so few groups.

    None where there are enough, or none at all.
    """
    if n_groups is None or n_groups >= FEW_GROUPS:
        return None
    return PoolFinding(
        "few_groups",
        None,
        f"only {n_groups} groups: intervals are those of {n_groups} draws, however many rows there "
        "are, and wide",
    )


def ordered_classes(metric: str, classes: tuple[str, ...]) -> PoolFinding | None:
    """The note that `quadratic_kappa` depends on an order that the names of classes do not tell."""
    if (
        metric != "quadratic_kappa"
        or len(classes) < 3
        or all(_is_number(name) for name in classes)
    ):
        return None
    return PoolFinding(
        "ordered_classes",
        None,
        "quadratic_kappa weighs an error by the squared distance of its classes in this order: "
        f"{_listed(classes)}. Name classes so that they sort as they are ordered (0_low, 1_medium, "
        "2_high)",
    )


def _few_groups(pool: Pool) -> list[PoolFinding]:
    found = None if pool.groups is None else few_groups(len(np.unique(pool.groups)))
    return [] if found is None else [found]


def _absent_classes(pool: Pool) -> list[PoolFinding]:
    if pool.y.ndim == 2:
        counts = (pool.y[is_known(pool.y)] == 1).sum(axis=0)
    else:
        counts = np.bincount(pool.y, minlength=len(pool.classes))
    absent = [name for name, count in zip(pool.classes, counts, strict=True) if count == 0]
    if not absent:
        return []
    kind = "label" if pool.y.ndim == 2 else "class"
    message = (
        f"no row of the pool has the {kind} {_listed(absent)}: nothing is fitted for it "
        "and no score counts it; test rows that have it are predicted worse than the "
        "scores say"
    )
    return [PoolFinding("absent_class", None, message)]


def _ordered_classes(pool: Pool, spec: BlendSpec) -> list[PoolFinding]:
    found = ordered_classes(spec.metric, pool.classes)
    return [] if found is None else [found]


def _ranks(pool: Pool, spec: BlendSpec) -> list[PoolFinding]:
    if spec.method == "auto" or method_class(spec.method).gives_probabilities:
        return []
    message = (
        f"{spec.method} gives ranks and no probabilities: use it for AUC (--metric "
        "roc_auc_ovr); its log loss, Brier score and calibration error mean nothing"
    )
    if pool.y.ndim == 2 and spec.calibrate == "none":
        message += (
            ", nor does a threshold of 0.5: --calibrate biases with a metric of decisions finds "
            "thresholds"
        )
    return [PoolFinding("not_probabilities", None, message)]


def _listed(names: list[str] | tuple[str, ...]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _is_number(name: str) -> bool:
    try:
        float(name)
    except ValueError:
        return False
    return True
