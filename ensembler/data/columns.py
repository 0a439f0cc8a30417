"""Columns of a manifest that members are fitted on, as the samples hold them."""

from __future__ import annotations

import pandas as pd

FEATURE_PREFIX = "feature:"  # before the name of such a column in the table of samples


def is_feature(column: object) -> bool:
    """Whether a column of the table of samples is one that members are fitted on."""
    return str(column).startswith(FEATURE_PREFIX)


def feature_cells(table: pd.DataFrame, name: str) -> pd.Series:
    """The cells of a column of a manifest; empty where it has none."""
    return table[name].fillna("").astype(str).str.strip()
