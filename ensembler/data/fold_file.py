"""A split that was fixed in a file: the fold of each sample, and which are held out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from ensembler.data.faults import Remark
from ensembler.data.spec import DataSpec, FoldSpec
from ensembler.data.tables import need_column, read_table
from ensembler.errors import DataError
from ensembler.fold_columns import FOLD, is_repeat

GIVEN = "_given"  # what the name of a column of folds ends in when they were given
HELD_OUT = "held_out_given"


def is_given(column: object) -> bool:
    """Whether a column of a `SampleSet` says how samples are split."""
    return str(column).endswith(GIVEN)


def given_column(column: str) -> str:
    """The column of a `SampleSet` with the folds that were given as `column`."""
    return f"{column}{GIVEN}"


def add_given_folds(table: pd.DataFrame, folds: FoldSpec) -> tuple[Remark, ...]:
    """Add the folds of `folds.file` to the train rows of a table of samples, matched by id.

    Its columns are `id`, `fold` (or the one that `folds.column` names; empty or -1 = never
    validated), perhaps `fold_r2`, ... of a repeated split, and perhaps `split`: a train row that
    does not have "train" there is held out. A run's samples.csv is such a file. DataError names
    the first sample that it lacks.
    """
    assert folds.file is not None
    path = Path(folds.file)
    given = read_table(path, DataSpec(source=folds.file))
    column = folds.column or FOLD
    for name, key in (("id", "the sample"), (column, "folds.column")):
        need_column(given, name, key, path)
    by_id = given.set_index("id")
    repeated = by_id.index.duplicated()
    if repeated.any():
        raise DataError(
            f"{path}: duplicate id {by_id.index[repeated][0]!r}: ids must be unique"
        )
    is_train = (table["split"] == "train").to_numpy()
    ids = table["id"][is_train]
    _check_ids(ids, by_id, path)
    rows = by_id.loc[ids]
    repeats = [name for name in by_id.columns if is_repeat(name)]
    for name, numbers in ((FOLD, column), *((name, name) for name in repeats)):
        table[given_column(name)] = -1
        table.loc[is_train, given_column(name)] = _numbers(rows[numbers], numbers, path)
    table[HELD_OUT] = False
    if "split" in rows:
        table.loc[is_train, HELD_OUT] = (rows["split"] != "train").to_numpy()
    return _remarks(table, by_id, path)


def _check_ids(ids: pd.Series, given: pd.DataFrame, path: Path) -> None:
    lacking = ids[~ids.isin(given.index)]
    if len(lacking):
        raise DataError(
            f"{path} lacks {len(lacking)} of the {len(ids)} train rows, such as "
            f"{lacking.iloc[0]!r}; `ens folds RECIPE --out {path.name}` writes the folds of all, "
            "without folds.file in the recipe"
        )


def _numbers(texts: pd.Series, column: str, path: Path) -> np.ndarray:
    read = pd.to_numeric(texts.replace("", "-1"), errors="coerce")
    numbers = read.to_numpy(np.float64, copy=True)
    numbers[~np.isfinite(numbers)] = -2  # no fold
    wrong = (numbers % 1 != 0) | (numbers < -1)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise DataError(
            f"{path}: {column} of {texts.index[row]!r} is {texts.iloc[row]!r}, expected a fold "
            "number from 0, or nothing"
        )
    return numbers.astype(np.int64)


def _remarks(table: pd.DataFrame, given: pd.DataFrame, path: Path) -> tuple[Remark, ...]:
    strange = given.index[~given.index.isin(table["id"])]
    if not len(strange):
        return ()
    message = (
        f"{path.name} has {len(strange)} samples that the data do not have, such as "
        f"{strange[0]!r}; they are left alone"
    )
    return (Remark("folds", message),)
