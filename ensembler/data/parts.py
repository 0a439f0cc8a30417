"""The train part or the test part of a source, as it was read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from ensembler.data.faults import Remark
from ensembler.data.images import ChosenImages, FileImages, Images


@dataclass(frozen=True)
class SourcePart:
    """Samples of the train part or the test part, not checked against each other yet.

    `table` has a row for each image; `where` is what messages call the part.
    """

    table: pd.DataFrame
    images: Images
    where: str
    remarks: tuple[Remark, ...] = ()

    def choose(self, positions: Sequence[int]) -> SourcePart:
        """The samples at some positions."""
        rows = list(positions)
        table = self.table.iloc[rows].reset_index(drop=True)
        return replace(self, table=table, images=ChosenImages(self.images, rows))


def part_of_files(
    paths: Sequence[Path],
    root: Path,
    split: str,
    labels: dict[str, list[Any]],
    where: Path,
    remarks: tuple[Remark, ...],
) -> SourcePart:
    """A part of files below a folder: each is called by its path from there."""
    ids = [str(path.relative_to(root)) for path in paths]
    table = pd.DataFrame(
        {"id": ids, "split": split, "source": split, "path": ids, **labels}
    )
    return SourcePart(table, FileImages(paths), str(where), remarks)
