"""The one order of rows of a run: `samples.csv`, a row for each sample."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ensembler.errors import MissingFileError, StoreError
from ensembler.files import write_bytes
from ensembler.fold_columns import is_fold_column, is_repeat
from ensembler.targets.kinds import Labels
from ensembler.targets.natural_order import in_natural_order
from ensembler.targets.target import Target

FIXED_COLUMNS = ("id", "split", "source", "fold", "group")


@dataclass(frozen=True)
class SampleTable:
    """The samples of a run, train rows and test rows, each in its own fixed order.

    `table` has the columns `id` (text, unique), `split` ("train" or "test"), `fold` (the fold a
    train row is validated in; -1 = never validated, and for all test rows), one column of label
    names for each target (missing = unknown) and, when the recipe names one, `group`. `source`
    tells held-out rows (split "test", source "train") from the rows of the recipe's test part (both
    "test"). Further columns are kept as they are.
    """

    table: pd.DataFrame

    @cached_property
    def train(self) -> pd.DataFrame:
        """Train rows in order; row i of `oof.npy` is row i here."""
        return self.table[self.table["split"] == "train"].reset_index(drop=True)

    @cached_property
    def test(self) -> pd.DataFrame:
        """Test rows in order; row i of `test.npy` is row i here."""
        return self.table[self.table["split"] == "test"].reset_index(drop=True)

    @cached_property
    def targets(self) -> tuple[str, ...]:
        """Names of the target columns."""
        known = set(FIXED_COLUMNS)
        return tuple(c for c in self.table.columns if c not in known and not is_repeat(c))

    def first_target(self, among: Sequence[str]) -> str | None:
        """The first target of the run that is `among` those named, else the first of these.

        None when none is named.
        """
        here = (target for target in self.targets if target in among)
        return next(here, among[0] if among else None)

    def labels(self, target: Target, split: str) -> Labels:
        """Labels of one split ("train", "test") as the target encodes them; -1 = unknown.

        Raises StoreError for a label that is not among the target's classes.
        """
        rows = self.train if split == "train" else self.test
        if target.name not in rows:
            raise StoreError(
                f"samples.csv has no target column {target.name!r}; it has "
                f"{', '.join(self.targets)}"
            )
        cells = rows[target.name].tolist()
        strange = in_natural_order(target.kind.names_in(cells) - set(target.classes))
        if strange:
            raise StoreError(
                f"samples.csv: label {strange[0]!r} of target {target.name!r} is not a class of "
                "its members"
            )
        return target.encode(cells)

    def groups(self, split: str = "train") -> NDArray[np.int64] | None:
        """Group numbers `[samples]` of one split, or None when the run has no groups."""
        if "group" not in self.table:
            return None
        rows = self.train if split == "train" else self.test
        return np.asarray(pd.factorize(rows["group"])[0], dtype=np.int64)

    def folds(self, column: str = "fold") -> NDArray[np.int64]:
        """The fold `[train samples]` in which each train row is validated; -1 = never."""
        return self.train[column].to_numpy(dtype=np.int64)

    @cached_property
    def to_submit(self) -> NDArray[np.bool_]:
        """Which test rows `[test samples]` a submission holds.

        The test part, or the held-out rows when there is none.
        """
        if "source" not in self.test:
            return np.ones(len(self.test), dtype=bool)
        of_test_part = (self.test["source"] == "test").to_numpy()
        return of_test_part if of_test_part.any() else np.ones(len(self.test), dtype=bool)


def write_samples(path: Path, table: pd.DataFrame) -> None:
    """Write `samples.csv`, whole or not at all."""
    write_bytes(path, samples_csv(table))


def samples_csv(table: pd.DataFrame) -> bytes:
    """A table as the bytes of `samples.csv`."""
    return table.to_csv(index=False, lineterminator="\n").encode()


def read_samples_csv(path: Path) -> SampleTable:
    """Read and check `samples.csv`; a StoreError names the row that does not fit."""
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise MissingFileError(
            f"{path} is missing; without it no prediction of the run can be matched"
        ) from error
    return parse_samples_csv(content, path)


def parse_samples_csv(content: bytes, path: Path) -> SampleTable:
    """As `read_samples_csv`, of the bytes of the file that errors call `path`."""
    try:
        table = pd.read_csv(
            io.BytesIO(content), dtype=str, keep_default_na=False, na_values={}
        )
    except (ValueError, pd.errors.ParserError) as error:
        raise StoreError(
            f"{path} is not a readable CSV ({error}); it was altered or cut short"
        ) from error
    missing = [c for c in ("id", "split", "fold") if c not in table]
    if missing:
        raise StoreError(
            f"{path} has no column {missing[0]!r}; it was altered or cut short"
        )
    return SampleTable(_check_rows(path, _typed(path, table)))


def _typed(path: Path, table: pd.DataFrame) -> pd.DataFrame:
    for column in filter(is_fold_column, table):
        numbers = pd.to_numeric(table[column].replace("", "-1"), errors="coerce")
        wrong = numbers.isna() | (numbers % 1 != 0) | (numbers < -1)
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            raise StoreError(
                f"{path} row {row + 2}: {column} is {table[column][row]!r}, expected a whole number"
            )
        table[column] = numbers.astype(np.int64)
    targets = [str(c) for c in table if c not in FIXED_COLUMNS and not is_repeat(c)]
    for target in targets:
        table[target] = _texts(table[target])
    return table


def _texts(column: pd.Series) -> pd.Series:
    """The texts of a column, None where it is empty; a text is one object in however many rows."""
    codes, texts = pd.factorize(column)
    objects = np.array([str(text) or None for text in texts], dtype=object)
    return pd.Series(objects[codes], index=column.index, dtype=object)


def _check_rows(path: Path, table: pd.DataFrame) -> pd.DataFrame:
    repeated = table["id"].duplicated()
    if repeated.any():
        row = int(np.flatnonzero(repeated)[0])
        raise StoreError(
            f"{path} row {row + 2}: duplicate id {table['id'][row]!r}; ids must be unique"
        )
    wrong = ~table["split"].isin(["train", "test"])
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise StoreError(
            f"{path} row {row + 2}: split is {table['split'][row]!r}, expected train or test"
        )
    group = group_in_several_folds(table)
    if group is not None:
        raise StoreError(
            f"{path}: group {group!r} is in several folds; a group belongs to one fold"
        )
    return table


def fold_repeats(table: pd.DataFrame) -> list[str]:
    """The fold columns of a repeated split beside the first."""
    return [column for column in table.columns if is_repeat(column)]


def group_in_several_folds(table: pd.DataFrame) -> str | None:
    """The first group whose validated train rows lie in more than one fold, if any does."""
    if "group" not in table:
        return None
    validated = table[(table["split"] == "train") & (table["fold"] >= 0)]
    folds = validated.groupby("group")["fold"].nunique()
    groups = folds.index[folds > 1]
    return str(groups[0]) if len(groups) else None
