"""How often each class is there, is given, and is rightly given."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ensembler.metrics.metric import Labels

Counts = NDArray[np.float64]  # `[units, classes]`


@dataclass(frozen=True)
class ClassCounts:
    """Counts by unit (a group of rows, or all of them) and class `[units, classes]`."""

    there: Counts
    given: Counts
    right: Counts

    @property
    def either(self) -> Counts:
        """Rows that have the class or are given it."""
        return self.there + self.given - self.right


def class_counts(
    decided: Labels,
    y: Labels,
    n_classes: int,
    units: NDArray[np.int64] | None = None,
) -> ClassCounts:
    """Count decisions against labels; without `units` `[rows]` all rows are one unit.

    Both are class indices `[rows]`, or of several labels at once 0 and 1 `[rows, classes]`.
    """
    unit = np.zeros(len(y), np.int64) if units is None else units
    n_units = int(unit.max(initial=0)) + 1
    if y.ndim == 2:
        marks = (y == 1, decided == 1, (y == 1) & (decided == 1))
        return ClassCounts(*(_summed(mark, unit, n_units) for mark in marks))
    hit = decided == y
    shape = (n_units, n_classes)
    return ClassCounts(
        _counted(unit, y, shape),
        _counted(unit, decided, shape),
        _counted(unit[hit], y[hit], shape),
    )


def _counted(unit: NDArray[np.int64], of: Labels, shape: tuple[int, int]) -> Counts:
    cells = np.bincount(
        unit * shape[1] + of.astype(np.int64), minlength=shape[0] * shape[1]
    )
    return cells.reshape(shape).astype(np.float64)


def _summed(mark: NDArray[np.bool_], unit: NDArray[np.int64], n_units: int) -> Counts:
    """The rows of each unit that are marked `[units, classes]`."""
    if n_units == 1:
        return mark.sum(axis=0, keepdims=True).astype(np.float64)
    columns = [np.bincount(unit[column], minlength=n_units) for column in mark.T]
    return np.stack(columns, axis=1).astype(np.float64)
