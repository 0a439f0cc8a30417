"""Columns of a table as numbers: encoders that are fitted on the train rows of a fold alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

ColumnKind = Literal["number", "category"]
MOST_CATEGORIES = 250  # of one column as categories of trees, which have 255 bins


def as_numbers(cells: pd.Series) -> pd.Series | None:
    """Cells of text as numbers, empty ones as NaN; None where one is no number."""
    texts = cells.fillna("").astype(str).str.strip()
    numbers = pd.to_numeric(texts.where(texts != ""), errors="coerce")
    is_none = numbers.isna() & (texts != "")
    return None if is_none.any() or np.isinf(numbers).any() else numbers.astype(np.float64)


def as_categories(cells: pd.Series) -> pd.Series:
    """Cells as text, empty ones as NaN."""
    texts = cells.fillna("").astype(str).str.strip()
    return texts.where(texts != "", np.nan).astype(object)


@dataclass(frozen=True)
class Encoded:
    """Numbers float32 `[rows, columns]`, and which columns `[columns]` are codes of categories."""

    x: NDArray[np.float32]
    is_category: NDArray[np.bool_]


@dataclass(frozen=True)
class ColumnEncoder:
    """Encoders fitted on some rows.

    For trees categories are codes, and what is missing or was never seen stays missing. For other
    heads each category is a column of 0 and 1, and a missing number is the median, with a column
    that says so.
    """

    transformer: Any
    names: tuple[str, ...]
    n_categories: int
    for_trees: bool

    @classmethod
    def fitted(
        cls, table: pd.DataFrame, kinds: Mapping[str, ColumnKind], *, for_trees: bool
    ) -> Self:
        """Fit on the rows of a table, whose columns are numbers or text as `kinds` says."""
        from sklearn.compose import ColumnTransformer

        names = [str(name) for name in table]
        numbers = [name for name in names if kinds[name] == "number"]
        categories = [name for name in names if kinds[name] == "category"]
        few: list[str] = []
        many: list[str] = []
        for name in categories:
            wide = for_trees and table[name].nunique() > MOST_CATEGORIES
            (many if wide else few).append(name)
        steps = _for_trees(few, many, numbers) if for_trees else _dense(few, numbers)
        transformer = ColumnTransformer(steps, sparse_threshold=0.0)
        transformer.fit(table)
        n_categories = len(few) if for_trees else 0
        return cls(transformer, tuple(names), n_categories, for_trees)

    def encode(self, table: pd.DataFrame) -> Encoded:
        """The rows of a table with the same columns."""
        x = np.asarray(self.transformer.transform(table), np.float32)
        return Encoded(x, np.arange(x.shape[1]) < self.n_categories)


def _for_trees(
    few: Sequence[str], many: Sequence[str], numbers: Sequence[str]
) -> list[tuple[str, Any, list[str]]]:
    from sklearn.preprocessing import OrdinalEncoder

    codes = {
        "handle_unknown": "use_encoded_value",
        "unknown_value": np.nan,
        "encoded_missing_value": np.nan,
    }
    return [
        ("few", OrdinalEncoder(**codes), list(few)),
        ("many", OrdinalEncoder(**codes), list(many)),
        ("numbers", "passthrough", list(numbers)),
    ]


def _dense(
    categories: Sequence[str], numbers: Sequence[str]
) -> list[tuple[str, Any, list[str]]]:
    from sklearn.impute import SimpleImputer
    from sklearn.preprocessing import OneHotEncoder

    one_hot = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    median = SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True)
    return [("categories", one_hot, list(categories)), ("numbers", median, list(numbers))]
