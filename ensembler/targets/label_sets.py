"""Multi-label targets: sets of labels, any number per sample, and how they are written.

In `samples.csv` a set is its labels with | between them; | alone is the empty set, and an empty
cell is unknown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

SEPARATOR = "|"
NO_LABEL = "(no label)"  # the stratum of the empty set


@dataclass(frozen=True)
class SetFormat:
    """How a table of the user writes sets of labels.

    `separator` stands between labels; `no_label` is written for the empty set (None: there is no
    such value).
    """

    separator: str
    no_label: str | None = None

    def parse(self, value: str) -> str | None:
        """A cell as `samples.csv` writes it.

        None = unknown. Raises ValueError for a label with | in its name.
        """
        if value == self.no_label:
            return SEPARATOR
        labels = [part.strip() for part in value.split(self.separator)]
        if self.no_label is not None:
            labels = [label for label in labels if label != self.no_label]
        labels = [label for label in labels if label]
        odd = [label for label in labels if SEPARATOR in label]
        if odd:
            raise ValueError(f"label {odd[0]!r} has a {SEPARATOR} in it")
        return write_set(labels) if labels else None

    def format(self, labels: Iterable[str]) -> str:
        """Labels in the order given, as the user's tables write them."""
        return self.separator.join(labels) or self.no_label or ""

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {"separator": self.separator, "no_label": self.no_label}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> SetFormat:
        """From the plain values of `to_json`."""
        return cls(str(content["separator"]), content.get("no_label"))


def write_set(labels: Iterable[str]) -> str:
    """A set as `samples.csv` writes it, its labels sorted."""
    return SEPARATOR.join(sorted(set(labels))) or SEPARATOR


def read_set(text: object) -> tuple[str, ...] | None:
    """The labels of a cell of `samples.csv`; None = unknown."""
    return (
        tuple(label for label in text.split(SEPARATOR) if label)
        if isinstance(text, str) and text
        else None
    )


def labels_in(texts: Iterable[object]) -> set[str]:
    """All labels that occur in cells of `samples.csv`."""
    return set(chain.from_iterable(read_set(text) or () for text in texts))


def without_labels(text: object, unwanted: Collection[str]) -> str | None:
    """A cell of `samples.csv` with some labels taken out of its set."""
    labels = read_set(text)
    return (
        None
        if labels is None
        else write_set(label for label in labels if label not in unwanted)
    )


def indicators(texts: Iterable[object], classes: Sequence[str]) -> NDArray[np.int64]:
    """Which of `classes` each cell of `samples.csv` holds, as 0 or 1 `[rows, classes]`.

    An unknown row is -1 throughout. Raises KeyError for a label that is not among the classes.
    """
    sets = [read_set(text) for text in texts]
    position = {name: i for i, name in enumerate(classes)}
    out = np.zeros((len(sets), len(classes)), np.int64)
    for row, labels in enumerate(sets):
        if labels is None:
            out[row] = -1
        else:
            out[row, [position[label] for label in labels]] = 1
    return out


def strata(texts: Sequence[object], at_least: int) -> list[str | None]:
    """What each row is stratified by: the rarest of its labels.

    Strata with fewer rows than asked join the largest.
    """
    sets = [read_set(text) for text in texts]
    sizes = Counter(chain.from_iterable(labels or () for labels in sets))
    found = [
        None
        if labels is None
        else min(labels, key=lambda name: (sizes[name], name), default=NO_LABEL)
        for labels in sets
    ]
    rows = Counter(stratum for stratum in found if stratum is not None)
    largest = max(rows, key=lambda name: (rows[name], name), default=None)
    return [
        largest if stratum is not None and rows[stratum] < at_least else stratum
        for stratum in found
    ]


def is_known(labels: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Which rows have a label: of label positions `[rows]`, or of indicators `[rows, classes]`."""
    known: NDArray[np.bool_] = labels >= 0
    return known if known.ndim == 1 else np.asarray(known.all(axis=1))
