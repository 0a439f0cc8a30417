"""What does not fit together in the samples of both parts: ids, and labels against classes."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ensembler.data.faults import MOST_NAMED, Fault
from ensembler.data.spec import DataSpec
from ensembler.errors import DataError, nearest
from ensembler.targets.natural_order import in_natural_order
from ensembler.targets.target import Target


def check_ids(table: pd.DataFrame, data: DataSpec) -> None:
    """Raise DataError for an id that is empty or a duplicate."""
    empty = np.flatnonzero(table["id"] == "")
    if len(empty):
        raise DataError(f"an id is empty in row {int(empty[0]) + 2} of {data.source}")
    repeated = table["id"][table["id"].duplicated()].unique().tolist()
    if repeated:
        shown = ", ".join(repr(i) for i in repeated[:MOST_NAMED])
        raise DataError(
            f"{len(repeated)} duplicate ids, such as {shown}; name a column of unique ones with "
            "data.id, or remove the copies"
        )


def check_labels(
    table: pd.DataFrame,
    targets: Sequence[Target],
    stated: Collection[str],
    where: str,
    faults: list[Fault] | None,
) -> None:
    """Raise DataError for labels that a run could not learn from, or not be scored on.

    `stated` are the targets whose classes the recipe or the source names; `where` is what messages
    call the train part. With `faults` they are added there, and such labels become unknown.
    """
    problems: list[Fault] = []
    for target in targets:
        found = _LabelsOf(table, target, where)
        if target.name not in stated:  # a recipe that names classes means each of them
            problems += found.lookalikes()
        problems += found.unnamed()
        problems += found.too_few()
        problems += found.only_in_test()
        if faults is not None:
            found.forget_misfits()
    if faults is not None:
        # Findings of an audit: what needs a fix of its own first, then the rest in one list.
        faults += sorted(problems, key=lambda fault: fault.code == "data")
    elif problems:
        raise DataError("\n".join(fault.message for fault in problems))


@dataclass
class _LabelsOf:
    """The labels of one target in both parts."""

    table: pd.DataFrame
    target: Target
    where: str

    def __post_init__(self) -> None:
        texts = self.table[self.target.name]
        kind, of_train = self.target.kind, self.table["split"] == "train"
        self.in_train = kind.names_in(texts[of_train])
        self.strange = in_natural_order(self.in_train - set(self.target.classes))
        in_test = kind.names_in(texts[~of_train])
        self.test_only = in_natural_order(in_test - self.in_train)

    def lookalikes(self) -> list[Fault]:
        """Labels that differ in what an eye does not see."""
        by_form: dict[str, list[str]] = {}
        for name in sorted(self.in_train):
            form = unicodedata.normalize("NFC", name).lower()
            by_form.setdefault(" ".join(form.split()), []).append(name)
        same = next((found for found in by_form.values() if len(found) > 1), None)
        if same is None:
            return []
        look_equal = len({unicodedata.normalize("NFC", name) for name in same}) < len(same)
        pair = " and ".join(ascii(name) if look_equal else repr(name) for name in same)
        return self._fault(
            f"labels of {self.target.name} differ only in case, spaces or the encoding of accents: "
            f"{pair}; make them one, or name all classes in the recipe (classes) if they are not"
        )

    def unnamed(self) -> list[Fault]:
        """Labels of train rows that are not among the classes."""
        if not self.strange:
            return []
        return self._fault(
            f"{self.target.name} has labels that its classes do not name: "
            f"{', '.join(self.strange[:MOST_NAMED])}; name them, or leave their rows out "
            "(data.keep, or drop of the target)"
        )

    def too_few(self) -> list[Fault]:
        """Fewer than two classes."""
        if not self.in_train:
            return self._fault(f"{self.target.name} has no label at all")
        if len(self.in_train) > 1:
            return []
        only = next(iter(self.in_train))
        return self._fault(
            f"{self.target.name} has the one class {only!r}; two are needed to learn"
        )

    def only_in_test(self) -> list[Fault]:
        """Labels that no train row has."""
        if not self.test_only:
            return []
        hint = nearest(self.test_only[0], sorted(self.in_train), most=4)
        message = (
            f"{self.target.name}: labels occur only in the test part: "
            f"{', '.join(self.test_only[:MOST_NAMED])}; train rows do not have them ({hint})"
        )
        rows = self.target.kind.has_any(self.table[self.target.name], self.test_only)
        return [Fault("label_only_in_test", message, tuple(self.table["path"][rows]))]

    def forget_misfits(self) -> None:
        """Make labels unknown that are not among the classes, or that no train row has."""
        misfits = [*self.strange, *self.test_only]
        rows = self.target.kind.has_any(self.table[self.target.name], misfits)
        self.table.loc[rows, self.target.name] = None

    def _fault(self, message: str) -> list[Fault]:
        return [Fault("data", f"{self.where}: {message}")]
