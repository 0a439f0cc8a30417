"""Equal and nearly equal images.

Findings name those across folds, across train and test, and with contradictory labels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ensembler.audit.duplicates import Duplicates
from ensembler.audit.findings import Finding, Severity
from ensembler.data.samples import SampleSet

Copies = tuple[int, ...]  # positions of images that show the same
_FIX = "data: {group_duplicates: true}"
_FIX_LABELS = "look at them, and leave the wrong ones out of the table"


def find_copies(
    samples: SampleSet, found: Duplicates, folds: pd.Series | None
) -> Iterator[Finding]:
    """Equal and nearly equal images, one finding for each kind.

    A further finding names those with contradictory labels.
    """
    fold = np.full(len(samples.table), -1) if folds is None else folds.to_numpy()
    rows = _Rows(samples, samples.table["source"].to_numpy(), fold)
    yield from rows.copies("duplicate", found.exact, "the same image")
    yield from rows.copies("near_duplicate", found.near, "nearly the same image")
    yield from rows.contradictions({*found.exact, *found.near})


@dataclass(frozen=True)
class _Rows:
    """The samples with the part and the fold of each row."""

    samples: SampleSet
    part: NDArray[np.object_]
    fold: NDArray[np.int64]

    def copies(self, code: str, sets: Sequence[Copies], what: str) -> Iterator[Finding]:
        """The sets of one kind, and how many of them cross a split."""
        if not sets:
            return
        across_parts = [same for same in sets if len(self._parts_of(same)) > 1]
        across_folds = [same for same in sets if len(self._folds_of(same)) > 1]
        message = (
            f"sets of files that show {what}: {len(sets)}, of which {len(across_folds)} cross "
            f"folds and {len(across_parts)} cross train and test"
        )
        paths = self._paths(sets)
        facts = {
            "sets": paths,
            "across_folds": len(across_folds),
            "across_train_and_test": len(across_parts),
        }
        severity: Severity = "warning" if across_parts or across_folds else "note"
        files = tuple(chain.from_iterable(paths))
        yield Finding(code, severity, message, _FIX, files, facts)

    def contradictions(self, sets: set[Copies]) -> Iterator[Finding]:
        """The sets whose images have different labels."""
        wrong = self._paths(sorted(same for same in sets if self._labels_differ(same)))
        if not wrong:
            return
        message = f"sets of files that show one image with different labels: {len(wrong)}"
        files = tuple(dict.fromkeys(chain.from_iterable(wrong)))
        facts = {"sets": wrong}
        yield Finding(
            "duplicate_other_label", "warning", message, _FIX_LABELS, files, facts
        )

    def _parts_of(self, same: Copies) -> set[str]:
        return {str(self.part[i]) for i in same}

    def _folds_of(self, same: Copies) -> set[int]:
        return {int(self.fold[i]) for i in same if self.fold[i] >= 0}

    def _paths(self, sets: Sequence[Copies]) -> list[list[str]]:
        paths = self.samples.table["path"]
        return [paths.iloc[list(same)].tolist() for same in sets]

    def _labels_differ(self, same: Copies) -> bool:
        rows = self.samples.table.iloc[list(same)]
        return any(
            len(rows[target].dropna().unique()) > 1 for target in self.samples.targets
        )
