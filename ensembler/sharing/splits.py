"""Whether somebody else's rows, labels and folds are those of a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ensembler.predictions.members import MemberRecord
from ensembler.predictions.samples import SampleTable

Part = Literal["train", "test"]
Rows = NDArray[np.int64]  # [rows of the run]: where each is among the other's rows


@dataclass(frozen=True)
class Fit:
    """How a member of another split fits a run: where its rows are, or the `reason` it does not.

    `train` is None when the out-of-fold rows cannot be taken.
    """

    train: Rows | None = None
    test: Rows | None = None
    reason: str | None = None


def rows_in_order(samples: SampleTable) -> Fit:
    """The fit of rows that are the run's own."""
    return Fit(np.arange(len(samples.train)), np.arange(len(samples.test)))


def fit_of(mine: SampleTable, theirs: SampleTable, record: MemberRecord) -> Fit:
    """Match a member's rows with those of a run by id; all of split, labels and folds must agree.

    The two may be in another order, and the member may have more test rows.
    """
    reason = _other_ids(mine, theirs, "train") or _lacking_ids(mine, theirs, "test")
    if reason is not None:
        return Fit(reason=reason)
    train = _positions(theirs.train, mine.train)
    test = _positions(theirs.test, mine.test)
    ordered = theirs.train.iloc[train].reset_index(drop=True)
    reason = _other_folds(mine.train, ordered, record.fold_column)
    if reason is None:
        reason = _other_labels(mine.train, ordered, record)
    if reason is None:
        tests = theirs.test.iloc[test].reset_index(drop=True)
        reason = _other_labels(mine.test, tests, record)
    return Fit(train, test) if reason is None else Fit(reason=reason)


def fit_on_test_rows(mine: SampleTable, theirs: SampleTable, record: MemberRecord) -> Fit:
    """Match the test rows of a run alone: all must be rows that the member never trained on."""
    reason = _lacking_ids(mine, theirs, "test")
    if reason is not None:
        return Fit(reason=f"{reason}; only rows that its networks never saw can be taken")
    test = _positions(theirs.test, mine.test)
    tests = theirs.test.iloc[test].reset_index(drop=True)
    reason = _other_labels(mine.test, tests, record)
    return Fit(test=test) if reason is None else Fit(reason=reason)


def _other_ids(mine: SampleTable, theirs: SampleTable, part: Part) -> str | None:
    """What is different in the ids of one part."""
    n_more = len(_rows(theirs, part)) - len(_rows(mine, part))
    lacking = _lacking_ids(mine, theirs, part)
    if lacking is None and n_more > 0:
        return f"it has {n_more} {part} rows that the run does not have"
    return lacking


def _lacking_ids(mine: SampleTable, theirs: SampleTable, part: Part) -> str | None:
    """Which rows of the run the other lacks."""
    here, there = _rows(mine, part)["id"], set(_rows(theirs, part)["id"])
    lacking = [sample for sample in here if sample not in there]
    if not lacking:
        return None
    return (
        f"{len(lacking)} of the run's {len(here)} {part} rows, such as {lacking[0]!r}, are not "
        f"among its {part} rows"
    )


def _rows(samples: SampleTable, part: Part) -> pd.DataFrame:
    return samples.train if part == "train" else samples.test


def _positions(rows: pd.DataFrame, wanted: pd.DataFrame) -> Rows:
    position = {sample: i for i, sample in enumerate(rows["id"])}
    return np.array([position[sample] for sample in wanted["id"]], np.int64)


def _other_folds(mine: pd.DataFrame, theirs: pd.DataFrame, column: str) -> str | None:
    if column not in mine or column not in theirs:
        return f"its folds are those of column {column!r}, which the run does not have"
    differ = int((mine[column].to_numpy() != theirs[column].to_numpy()).sum())
    if differ:
        return f"{differ} of {len(mine)} train rows lie in other folds"
    return None


def _other_labels(
    mine: pd.DataFrame, theirs: pd.DataFrame, record: MemberRecord
) -> str | None:
    for target in record.tasks or (record.target,):
        if target not in mine:
            return f"it predicts {target!r}, which the run does not have"
        if target not in theirs:
            continue
        here, there = mine[target].fillna(""), theirs[target].fillna("")
        differ = (here != there) & (here != "") & (there != "")
        if differ.any():
            first = mine["id"][differ].iloc[0]
            return f"{int(differ.sum())} rows have another label of {target!r}, such as {first!r}"
    return None
