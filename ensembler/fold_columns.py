"""Names of the columns of `samples.csv` that hold folds.

`fold`, and `fold_r2`, `fold_r3`, ... of a repeated split.
"""

from __future__ import annotations

FOLD = "fold"
REPEATED = "fold_r"  # what the names of further splits begin with


def fold_column(repeat: int) -> str:
    """The column of one of the repeats of a split, counted from 0."""
    return FOLD if repeat == 0 else f"{REPEATED}{repeat + 1}"


def is_repeat(column: object) -> bool:
    """Whether a column holds the folds of a repeat beside the first."""
    return str(column).startswith(REPEATED)


def is_fold_column(column: object) -> bool:
    """Whether a column holds folds."""
    return column == FOLD or is_repeat(column)
