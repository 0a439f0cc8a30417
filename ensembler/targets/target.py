"""A target: what a label is, in one object that goes wherever labels, logits or answers go."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ensembler.targets.kinds import Labels, TargetKind, kind_written_as
from ensembler.targets.label_sets import SetFormat, is_known


@dataclass(frozen=True)
class Target:
    """A column of labels: its name, its classes in order, and its kind.

    `set_format` says how the user's tables write sets of labels; without one a row has one label.
    """

    name: str
    classes: tuple[str, ...]
    set_format: SetFormat | None = None

    @property
    def kind(self) -> TargetKind:
        """`SINGLE_LABEL` or `MULTI_LABEL`: everything that does not depend on the classes."""
        return kind_written_as(self.set_format)

    @property
    def is_multi_label(self) -> bool:
        """Whether a row may have several labels at once, or none."""
        return self.kind.is_multi_label

    def encode(self, texts: Sequence[object]) -> Labels:
        """Cells of `samples.csv` as labels: positions `[rows]`, or 0 and 1 `[rows, classes]`.

        -1 = unknown. Raises KeyError with the label that is not among the classes.
        """
        return self.kind.encode(texts, self.classes)

    def known(self, labels: Labels) -> NDArray[np.bool_]:
        """Which rows `[rows]` have a label."""
        return is_known(labels)

    def unknown(self, rows: int) -> Labels:
        """Labels of rows of which nothing is known."""
        return self.kind.unknown(rows, len(self.classes))

    def strata(self, texts: Sequence[object], at_least: int = 1) -> list[str | None]:
        """What each row is stratified by: its label, or the rarest of several at once.

        Of several, strata with fewer than `at_least` rows join the largest.
        """
        return self.kind.strata(texts, at_least)

    def strata_codes(self, texts: Sequence[object]) -> NDArray[np.int64]:
        """The same, each stratum a number `[rows]`; -1 = unknown."""
        return self.kind.strata_codes(texts, self.classes)

    def probs(self, logits: NDArray[np.floating]) -> NDArray[np.float64]:
        """Probabilities `[..., classes]` of logits: their softmax, or the sigmoid of each label."""
        return self.kind.probs(logits)

    def decide(self, probs: NDArray[np.floating]) -> Labels:
        """The answers: the most probable class `[rows]`, or 1 from 0.5 `[rows, classes]`."""
        return self.kind.decide(probs)

    def write(self, probs: NDArray[np.floating]) -> list[str]:
        """The answer for each row, as a submission holds it: a class, or formatted labels."""
        if self.set_format is None:
            return [self.classes[i] for i in self.decide(probs)]
        return [self.set_format.format(self._labels_of(row)) for row in self.decide(probs)]

    def _labels_of(self, row: NDArray[np.int64]) -> Iterable[str]:
        return [name for name, has_it in zip(self.classes, row, strict=True) if has_it]
