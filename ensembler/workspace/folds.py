"""`ens folds`: the split of a recipe as a file, for a team to agree on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ensembler.fold_columns import is_fold_column
from ensembler.outputs import check_output, open_output
from ensembler.predictions.samples import samples_csv
from ensembler.progress import QUIET, Progress
from ensembler.recipe.load import Recipe
from ensembler.workspace.preview import preview_workspace


@dataclass(frozen=True)
class FoldsWritten:
    """What was written: train rows by fold, held-out rows beside."""

    recipe: str
    out: Path
    rows: int
    folds: dict[str, int]
    held_out: int

    def to_json(self) -> dict[str, Any]:
        """As the object that `ens folds --json` prints."""
        return {**self.__dict__, "out": str(self.out)}


def write_folds(
    recipe: Recipe, artifacts: Path, out: Path, progress: Progress = QUIET
) -> FoldsWritten:
    """Write the labelled rows with their folds as `out`, a CSV of id, split and fold.

    `split` is train or holdout. They are those of the recipe's run where that is there, else as it
    would be made; nothing is written into the run. `folds: out` in a recipe takes them.
    """
    check_output(out)
    with preview_workspace(recipe, artifacts, progress) as workspace:
        table = labelled_rows(workspace.store.samples.table)
    with open_output(out) as file:
        file.write(samples_csv(table))
    train = table[table["split"] == "train"]
    sizes = train["fold"].value_counts().sort_index()
    return FoldsWritten(
        recipe=recipe.spec.name,
        out=out,
        rows=len(table),
        folds={str(fold): int(n) for fold, n in sizes.items()},
        held_out=len(table) - len(train),
    )


def labelled_rows(samples: pd.DataFrame) -> pd.DataFrame:
    """The rows of a samples.csv that are split, with their folds; held-out ones have none."""
    is_held_out = (samples["split"] == "test") & (samples["source"] == "train")
    rows = samples[(samples["split"] == "train") | is_held_out]
    columns = ["id", "split", *(column for column in samples if is_fold_column(column))]
    table = rows[columns].reset_index(drop=True)
    table["split"] = table["split"].replace("test", "holdout")
    return table
