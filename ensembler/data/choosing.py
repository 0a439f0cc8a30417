"""Which rows a recipe asks for.

It may keep or drop classes, leave out rare ones, and limit the number of rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from itertools import chain

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ensembler.data.parts import SourcePart
from ensembler.data.spec import ComposeSpec, DataSpec, TargetSpec
from ensembler.errors import DataError, nearest
from ensembler.targets.label_sets import read_set, without_labels


def choose_train_rows(train: SourcePart, data: DataSpec) -> SourcePart:
    """The train part without rows of classes that the recipe does not want."""
    if data.keep is not None:
        train = train.choose(_rows_kept(train.table[data.target_names[0]], data.keep))
    unwanted = _unwanted_rows(train.table, data)
    return train.choose(np.flatnonzero(~unwanted).tolist()) if unwanted.any() else train


def drop_unwanted_labels(
    train: SourcePart, test: SourcePart | None, data: DataSpec
) -> None:
    """Take labels that the recipe drops, or that are too rare, out of the sets of both parts."""
    parts = [train] if test is None else [train, test]
    for name in data.set_formats:
        unwanted = _unwanted_labels(train.table[name], name, data.target_specs[name])
        for part in parts:
            part.table[name] = [without_labels(text, unwanted) for text in part.table[name]]


def limit_rows(
    train: SourcePart, test: SourcePart | None, data: DataSpec
) -> tuple[SourcePart, SourcePart | None]:
    """At most as many rows of each part as the recipe asks for, drawn with a fixed seed."""
    if data.limit is not None:
        train = _stratified(train, data, data.limit)
    if test is not None and data.test_limit is not None:
        drawn = np.random.default_rng(0).permutation(len(test.table))[: data.test_limit]
        test = test.choose(sorted(drawn.tolist()))
    return train, test


def _rows_kept(labels: pd.Series, keep: Sequence[str]) -> list[int]:
    known = labels.dropna().unique()
    absent = [name for name in keep if name not in set(known)]
    if absent:
        raise DataError(
            f"data.keep names {absent[0]!r}, which no row has; {nearest(absent[0], known)}"
        )
    kept: list[int] = np.flatnonzero(labels.isin(keep)).tolist()
    return kept


def _unwanted_rows(table: pd.DataFrame, data: DataSpec) -> NDArray[np.bool_]:
    """Which rows `[rows]` have a label that the recipe drops.

    Also those of a class with fewer rows than the recipe asks for.
    """
    out = np.zeros(len(table), dtype=bool)
    for name, spec in data.target_specs.items():
        if name in data.set_formats:
            continue  # labels are left out of its sets instead
        _check_dropped(name, spec.drop, table[name].dropna().unique())
        out |= table[name].isin(spec.drop).to_numpy()
        if spec.min_count is not None:
            counts = table[name][~out].value_counts()
            out |= table[name].isin(counts.index[counts < spec.min_count]).to_numpy()
    composed = data.composition
    if composed is not None and composed.min_count is not None:
        out |= _rare_combinations(table, composed, composed.min_count, out)
    return out


def _check_dropped(name: str, drop: Sequence[str], known: Collection[str]) -> None:
    """Raise DataError when no row has any of the labels to drop."""
    absent = [label for label in drop if label not in set(known)]
    if absent and len(absent) == len(drop):
        raise DataError(
            f"data.targets.{name}.drop names {absent[0]!r}, which no row has; "
            f"{nearest(absent[0], known)}"
        )


def _rare_combinations(
    table: pd.DataFrame, composed: ComposeSpec, least: int, out: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    parts = table[list(composed.of)]
    # Rows with an unknown part make no class and stay.
    sizes = parts[~out].groupby(list(composed.of)).size()
    rare = sizes.index[sizes < least]
    return np.asarray(pd.MultiIndex.from_frame(parts).isin(rare))


def _unwanted_labels(texts: pd.Series, name: str, spec: TargetSpec) -> set[str]:
    sizes = Counter(chain.from_iterable(read_set(text) or () for text in texts))
    absent = [label for label in spec.drop if label not in sizes]
    if absent:
        raise DataError(
            f"data.targets.{name}.drop names {absent[0]!r}, which no row has; "
            f"{nearest(absent[0], list(sizes))}"
        )
    least = spec.min_count or 0
    return {*spec.drop, *(label for label, n in sizes.items() if n < least)}


def _stratified(part: SourcePart, data: DataSpec, most: int) -> SourcePart:
    """At most `most` rows, each class with its share; a set counts for its rarest label."""
    target = data.target_names[0]
    strata = np.array(
        data.kind(target).strata(part.table[target].tolist(), 1), dtype=object
    )
    if most >= len(strata):
        return part
    rng = np.random.default_rng(0)
    rank = np.empty(len(strata))
    for name in pd.unique(strata):
        rows = np.flatnonzero(strata == name)
        rank[rng.permutation(rows)] = (np.arange(len(rows)) + 0.5) / len(rows)
    return part.choose(sorted(np.argsort(rank, kind="stable")[:most].tolist()))
