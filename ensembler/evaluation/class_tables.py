"""What `ens evaluate --per class` and `--confusion` show, as tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import TypeVar

import numpy as np

from ensembler.evaluation.by_class import ByClass, ClassRow, Confusion
from ensembler.reporting.tables import Cell, Table, number

MOST_IN_MATRIX = 12  # classes whose confusion matrix is shown whole
_SPLITS = {"oof": "out of fold", "holdout": "holdout"}
Row = TypeVar("Row", ClassRow, Confusion)


def class_tables(result: ByClass, members: Sequence[str] | None) -> list[Table]:
    """A table of classes for each member named, else for the submitted blend of each target."""
    tables = []
    for (split, target, label), rows in _shown(result.rows, result.submitted, members):
        body = [_class_cells(row) for row in rows]
        title = f"{result.run}: {target} by class, {label}, {_SPLITS[split]}"
        columns = ("class", "rows", "precision", "recall", "f1", "95 % interval of f1")
        tables.append(Table(title, columns, tuple(body), digits=3))
    return tables


def _class_cells(row: ClassRow) -> tuple[Cell, ...]:
    interval = f"{number(row.low, 3)} to {number(row.high, 3)}"
    return (row.class_name, row.n, row.precision, row.recall, row.f1, interval)


def confusion_tables(result: ByClass, members: Sequence[str] | None) -> list[Table]:
    """The matrix of few classes, of many the most confused pairs; of the same as `class_tables`."""
    tables = []
    for (split, target, label), found in _shown(
        result.confusions, result.submitted, members
    ):
        title = f"{result.run}: {target} confused, {label}, {_SPLITS[split]}"
        tables += [_confusion_table(title, confusion) for confusion in found]
    return tables


def _confusion_table(title: str, confusion: Confusion) -> Table:
    if len(confusion.classes) > MOST_IN_MATRIX:
        pairs = confusion.worst_pairs()
        columns = ("true class", "taken for", "rows", "of the class")
        return Table(f"{title}, the most frequent errors", columns, tuple(pairs), digits=3)
    matrix: list[tuple[Cell, ...]] = []
    for name, counts in zip(confusion.classes, confusion.counts, strict=True):
        matrix.append((name, *counts.tolist()))
    return Table(title, ("true \\ predicted", *confusion.classes), tuple(matrix))


def _shown(
    rows: Iterable[Row], submitted: str | None, members: Sequence[str] | None
) -> list[tuple[tuple[str, str, str], list[Row]]]:
    """The rows of each split, target and prediction that a terminal shows.

    Those of the members named, else of one prediction for each target: the submitted blend, else
    any blend, else the member whose mean F1 is best.
    """
    found = {key: list(of_one) for key, of_one in groupby(rows, _key)}
    if members is not None:
        return list(found.items())
    best: dict[tuple[str, str], tuple[str, str, str]] = {}
    for key, of_one in found.items():
        place = key[:2]
        if place not in best or _rank(of_one, submitted) > _rank(
            found[best[place]], submitted
        ):
            best[place] = key
    return [(key, found[key]) for key in best.values()]


def _key(row: ClassRow | Confusion) -> tuple[str, str, str]:
    return row.split, row.target, row.name if row.kind == "member" else f"blend {row.name}"


def _rank(rows: Sequence[ClassRow | Confusion], submitted: str | None) -> tuple[float, ...]:
    """The higher, the sooner it is shown."""
    is_blend = rows[0].kind == "blend"
    return is_blend and rows[0].name == submitted, is_blend, _quality(rows)


def _quality(rows: Sequence[ClassRow | Confusion]) -> float:
    """The mean F1 of classes, or the share of rows on the diagonal."""
    first = rows[0]
    if isinstance(first, Confusion):
        return float(np.trace(first.counts) / first.counts.sum())
    scores = [row.f1 for row in rows if isinstance(row, ClassRow)]
    return float(np.nanmean(scores))
