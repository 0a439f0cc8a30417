"""How many rows there are by split, target and class, fold and group, and what the images are."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ensembler.audit.facts import ImageFacts
from ensembler.data.samples import SampleSet


def count_samples(
    samples: SampleSet, folds: pd.Series | None, facts: ImageFacts
) -> dict[str, Any]:
    """The counts of an audit, as its JSON object holds them."""
    table = samples.table
    found: dict[str, Any] = {
        "images": len(table),
        "splits": table["split"].value_counts().to_dict(),
        "classes": {target: _by_class(samples, target) for target in samples.targets},
    }
    if folds is not None:
        sizes = folds[folds >= 0].value_counts().sort_index()
        found["folds"] = {str(fold): int(n) for fold, n in sizes.to_dict().items()}
    if "group" in table:
        found["groups"] = _of_groups(table["group"].value_counts())
    return {**found, **_of_images(facts, facts.readable)}


def _by_class(samples: SampleSet, target: str) -> dict[str, dict[str, int]]:
    labels = samples.labels_below(target)
    splits = samples.table["split"][labels.index]
    crossed = pd.crosstab(labels.to_numpy(), splits.to_numpy())
    counted = {str(split): crossed[split].to_dict() for split in crossed}
    by_class: dict[str, dict[str, int]] = {}
    for name in samples.classes[target]:
        by_class[name] = {split: int(n.get(name, 0)) for split, n in counted.items()}
    return by_class


def _of_groups(sizes: pd.Series) -> dict[str, int]:
    single = int((sizes == 1).sum())
    return {"number": len(sizes), "largest": int(sizes.iloc[0]), "single": single}


def _of_images(facts: ImageFacts, rows: NDArray[np.bool_]) -> dict[str, dict[str, int]]:
    shapes = Counter(
        zip(facts.width[rows].tolist(), facts.height[rows].tolist(), strict=True)
    )
    sizes = {f"{width}x{height}": n for (width, height), n in shapes.most_common(10)}
    return {"sizes": sizes, "kinds": dict(Counter(facts.kind[rows].tolist()).most_common())}
