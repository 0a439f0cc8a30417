"""From a column of a table to the labels of a target.

Labels are the values as they are, in bins, mapped, or sets of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain

import numpy as np
import pandas as pd

from ensembler.data.faults import Remark
from ensembler.data.spec import DataSpec, TargetSpec, TrainBins, as_train_bins
from ensembler.errors import DataError, nearest
from ensembler.targets.label_sets import SetFormat, read_set

# of columns that hold the labels to train on, where they differ from those that are scored
TRAIN_PREFIX = "train:"
# of columns that hold the numbers which bins cut, for members that draw their own
VALUE_PREFIX = "value:"


@dataclass
class Derived:
    """The labels of one target by column name, and in words what does not fit, each with its row.

    The columns are the target's name, `train:` before it where training bins differ, and `value:`
    for the numbers that bins cut. None = unknown. `cells` are those of the table, `where` what
    messages call it.
    """

    spec: TargetSpec
    cells: pd.Series
    rows: Sequence[int]
    where: str
    labels: dict[str, pd.Series] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def place(self, position: int) -> str:
        """How messages call a cell."""
        return f"{self.where} row {self.rows[position]}: {self.cells.name}"

    def format_problems(self) -> list[str]:
        """What says that sets of labels are written in another way than the recipe has it."""
        form = self.spec.set_format
        if form is None:
            return []
        sets = [read_set(text) or () for text in chain.from_iterable(self.labels.values())]
        return [*self._separator_problems(form, sets), *self._no_label_problems(form)]

    def _separator_problems(
        self, form: SetFormat, sets: Sequence[Sequence[str]]
    ) -> list[str]:
        if any(len(labels) > 1 for labels in sets):
            return []
        return [
            f"{self.where}: no row of {self.cells.name} has two labels with {form.separator!r} "
            f"between them, such as {self.cells.iloc[0]!r}; multi_label should be the separator "
            "of labels"
        ]

    def _no_label_problems(self, form: SetFormat) -> list[str]:
        if not form.no_label or (self.cells == form.no_label).any():
            return []
        names = nearest(form.no_label, sorted(set(self.cells)), most=4)
        return [
            f"{self.where}: no row of {self.cells.name} is {form.no_label!r}, as no_label has it; "
            f"{names}"
        ]


def derive_labels(
    table: pd.DataFrame, name: str, spec: TargetSpec, rows: Sequence[int], where: str
) -> Derived:
    """The labels of one target in a table, whose `rows` messages name by number.

    All are unknown where the table has no such column.
    """
    column = spec.column or name
    if column not in table:
        empty = pd.Series([""] * len(table), name=column)
        labels = {name: pd.Series([None] * len(table), dtype=object)}
        return Derived(spec, empty, rows, where, labels)
    derived = Derived(spec, table[column].str.strip(), rows, where)
    if spec.set_format is not None:
        derived.labels[name] = _sets(derived, spec.set_format)
    elif spec.bins is not None:
        derived.labels[name] = _binned(derived.cells, spec, spec.bins)
        derived.problems += _not_numbers(derived)
        derived.labels[VALUE_PREFIX + name] = derived.cells
        if spec.train_bins is not None:
            bins = as_train_bins(spec.train_bins)
            trained = labels_to_train_on(derived.cells, spec, bins)
            derived.labels[TRAIN_PREFIX + name] = trained
    else:
        values = derived.cells if spec.map is None else _mapped(derived, spec.map)
        derived.labels[name] = values.astype(object).where(values != "", None)
    return derived


def labels_to_train_on(cells: pd.Series, spec: TargetSpec, bins: TrainBins) -> pd.Series:
    """The labels of numbers by the edges that are trained with.

    None where there is no number, or where it is among those that are left out.
    """
    labels = _binned(cells, spec, bins.edges or spec.bins or ())
    numbers = pd.to_numeric(cells, errors="coerce")
    for low, high in bins.drop:
        labels = labels.mask(numbers.between(low, high), None)
    return labels.mask(labels.isin(spec.drop), None)


def _binned(cells: pd.Series, spec: TargetSpec, bins: Sequence[float]) -> pd.Series:
    numbers = pd.to_numeric(cells, errors="coerce")
    names = np.array(spec.bin_labels, dtype=object)
    labels = names[np.digitize(numbers.fillna(0), bins)]
    return pd.Series(labels, dtype=object, index=cells.index).where(numbers.notna(), None)


def _not_numbers(derived: Derived) -> list[str]:
    numbers = pd.to_numeric(derived.cells, errors="coerce")
    wrong = np.flatnonzero(numbers.isna() & (derived.cells != ""))
    if not len(wrong):
        return []
    first = int(wrong[0])
    given = derived.cells[first]
    return [f"{derived.place(first)} is {given!r}, expected a number to put into bins"]


def _sets(derived: Derived, form: SetFormat) -> pd.Series:
    sets: list[str | None] = [None] * len(derived.cells)
    for i, value in enumerate(derived.cells):
        try:
            sets[i] = form.parse(value)
        except ValueError as error:
            derived.problems.append(
                f"{derived.place(i)}: {error}, which separates labels in samples.csv; rename it"
            )
            break
    return pd.Series(sets, dtype=object)


def _mapped(derived: Derived, names: dict[str, str]) -> pd.Series:
    values, others = derived.cells, derived.spec.others
    unlisted = [i for i, value in enumerate(values) if value != "" and value not in names]
    if unlisted and others is None:
        value = values[unlisted[0]]
        derived.problems.append(
            f"{derived.place(unlisted[0])} is {value!r}, which the map does not list; "
            f"{nearest(value, names)}; others: keep keeps what is not listed"
        )
    kept = {values[i]: values[i] if others == "keep" else (others or "") for i in unlisted}
    return values.map({**names, **kept, "": ""})


def label_space_remarks(values: pd.Series, target: str, where: str) -> list[Remark]:
    """A remark where some labels have spaces around them, which do not count.

    Where all have them it is a style.
    """
    spaced = values[values != values.str.strip()]
    if spaced.empty or len(spaced) == len(values):
        return []
    labels = "1 label" if len(spaced) == 1 else f"{len(spaced)} labels"
    message = (
        f"{where}: the spaces around {labels} of {target} are dropped, "
        f"such as {spaced.iloc[0]!r}"
    )
    return [Remark("label_spaces", message)]


def check_single_label(data: DataSpec, what: str) -> None:
    """Raise DataError for a multi-label target of a source that gives one label for each image."""
    if data.set_formats:
        raise DataError(
            f"multi_label: {what} one label for each image; name labels in a CSV manifest or by "
            "data.pattern"
        )


def stated_order(spec: TargetSpec) -> tuple[str, ...] | None:
    """The classes of a target in the order that its spec gives.

    None when they are found in the data.
    """
    if spec.classes is not None:
        return spec.classes
    if spec.bins is not None:
        return tuple(name for name in spec.bin_labels if name not in spec.drop)
    if spec.map is not None and spec.others is None:
        return tuple(
            dict.fromkeys(name for name in spec.map.values() if name not in spec.drop)
        )
    return None
