"""What is wrong with labels: rare classes, imbalance, and labels that only train rows have."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from ensembler.audit.findings import Finding
from ensembler.data.samples import SampleSet

RARE = 10  # train rows below which a class is called rare, whatever the folds
IMBALANCE = 10.0
_MOST_NAMED = 8
_FIX_IMBALANCE = (
    "defaults: {sampler: sqrt}, and a metric such as f1_macro beside the accuracy"
)


def find_label_problems(samples: SampleSet, n_folds: int) -> Iterator[Finding]:
    """Problems of labels: few rows of a class, imbalance, and labels that only train rows have."""
    is_train = samples.table["split"] == "train"
    for target in samples.targets:
        labels = samples.labels_below(target)
        of_train = labels[is_train[labels.index]]
        sizes = of_train.value_counts()
        yield from _rare(samples, target, of_train, sizes, max(RARE, n_folds))
        yield from _imbalanced(target, sizes)
        yield from _only_in_train(target, sizes, labels[~is_train[labels.index]])


def _rare(
    samples: SampleSet, target: str, labels: pd.Series, sizes: pd.Series, least: int
) -> Iterator[Finding]:
    rare = sizes[sizes < least]
    if rare.empty:
        return
    fewest = rare.sort_values().head(_MOST_NAMED)
    shown = ", ".join(f"{name} ({n})" for name, n in fewest.items())
    share = f"{len(rare)} of {len(sizes)} classes"
    message = f"{target}: fewer than {least} train rows in {share}: {shown}"
    rows = labels.index[labels.isin(rare.index)].unique()
    files = tuple(samples.table.loc[rows, "path"])
    facts = {"target": target, "classes": list(rare.index)}
    yield Finding(
        "rare_class", "warning", message, _fix_rare(samples, target, least), files, facts
    )


def _fix_rare(samples: SampleSet, target: str, least: int) -> str:
    if samples.composition is not None and target == samples.composition.name:
        return f"data: {{compose: {{min_count: {least}}}}}"
    return f"data: {{targets: {{{target}: {{min_count: {least}}}}}}}"


def _imbalanced(target: str, sizes: pd.Series) -> Iterator[Finding]:
    if len(sizes) < 2 or sizes.max() / sizes.min() < IMBALANCE:
        return
    ratio = float(sizes.max() / sizes.min())
    message = (
        f"{target}: {sizes.idxmax()} has {ratio:.0f} times as many train rows as "
        f"{sizes.idxmin()}"
    )
    facts = {"target": target, "ratio": ratio}
    yield Finding("imbalance", "note", message, _FIX_IMBALANCE, (), facts)


def _only_in_train(target: str, sizes: pd.Series, known: pd.Series) -> Iterator[Finding]:
    """Labels that no labelled test row has."""
    missing = sorted(set(sizes.index) - set(known))
    if known.empty or not missing:
        return
    message = f"{target}: no test row with a label is {', '.join(missing[:_MOST_NAMED])}"
    facts = {"target": target, "classes": missing}
    yield Finding("label_only_in_train", "note", message, "", (), facts)
