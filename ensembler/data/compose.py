"""A class made of several targets: the column of composed labels, and how they are composed."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from ensembler.data.labels import TRAIN_PREFIX
from ensembler.data.spec import DataSpec
from ensembler.errors import DataError, nearest
from ensembler.targets.composition import Composition


def compose(
    table: pd.DataFrame,
    data: DataSpec,
    classes: dict[str, tuple[str, ...]],
    train_rows: Iterable[bool],
) -> tuple[pd.DataFrame, Composition]:
    """The table with the composed class in front of its targets, and how it is composed.

    Raises DataError for a row whose combination the recipe calls impossible.
    """
    spec = data.composition
    assert spec is not None
    for rule in spec.exclude:
        for task, value in rule.items():
            if value not in classes[task]:
                raise DataError(
                    f"data.compose.exclude: {task} has no class {value!r}; "
                    f"{nearest(value, classes[task])}"
                )
    try:
        composition = Composition.build(
            spec.name,
            {task: classes[task] for task in spec.of},
            separator=spec.separator,
            numbers=spec.numbers,
            impossible=spec.exclude,
            prior=spec.prior,
        )
    except ValueError as error:
        raise DataError(f"data.compose: {error}; choose another separator") from error
    table = table.copy()
    table[spec.name] = pd.Series(_composed(table, composition, ""), dtype=object)
    if any(TRAIN_PREFIX + task in table for task in spec.of):
        table[TRAIN_PREFIX + spec.name] = pd.Series(
            _composed(table, composition, TRAIN_PREFIX), dtype=object
        )
    if spec.unseen == "exclude" or spec.min_count is not None:
        train = table[spec.name][np.asarray(list(train_rows), dtype=bool)]
        seen = set(train.dropna())
        composition = composition.without(
            [name for name in composition.classes if name not in seen]
        )
        strange = sorted(set(table[spec.name].dropna()) - seen)
        if strange:
            raise DataError(
                f"{strange[0]!r} occurs only in the test part; compose: {{unseen: keep}} "
                "without min_count keeps such classes"
            )
    trained = TRAIN_PREFIX + spec.name
    if trained in table:  # what is no class any more is not trained on
        is_class = table[trained].isin(composition.classes)
        table[trained] = table[trained].where(is_class, None)
    return table, composition


def _composed(
    table: pd.DataFrame, composition: Composition, prefix: str
) -> list[str | None]:
    columns = [
        table[prefix + task if prefix + task in table else task]
        for task in composition.tasks
    ]
    labels: list[str | None] = []
    for i, parts in enumerate(zip(*columns, strict=True)):
        try:
            labels.append(
                composition.label([p if isinstance(p, str) else None for p in parts])
            )
        except KeyError as error:
            raise DataError(
                f"sample {table['id'].iloc[i]!r} is {', '.join(map(str, parts))}, a "
                "combination that data.compose.exclude calls impossible"
            ) from error
    return labels
