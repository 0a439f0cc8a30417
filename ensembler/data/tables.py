"""Manifests: CSV and Parquet files with a row for each image."""

from __future__ import annotations

import codecs
import csv
from pathlib import Path
from typing import Any

import pandas as pd

from ensembler.data.spec import DataSpec
from ensembler.errors import DataError, MissingExtraError, nearest

# the attribute of a table that holds its header as it stands: pandas renames what comes twice
_NAMES = "names"
TABLE_SUFFIXES = (".csv", ".tsv", ".txt", ".parquet", ".pq")


def read_table(path: Path, spec: DataSpec) -> pd.DataFrame:
    """Read a manifest as text.

    DataError names the file, the separator and the encoding that were tried.
    """
    if not path.is_file():
        raise DataError(f"{path} does not exist")
    if path.suffix in (".parquet", ".pq"):
        return _read_parquet(path)
    _check_encoding(spec.encoding)
    separator = spec.separator or _find_separator(path, spec.encoding)
    tried = f"separator {separator!r}, encoding {spec.encoding}"
    try:
        how: dict[str, Any] = {"sep": separator, "encoding": spec.encoding}
        table = pd.read_csv(path, dtype=str, keep_default_na=False, **how)
        names = (
            pd.read_csv(path, dtype=str, keep_default_na=False, header=None, nrows=1, **how)
            .iloc[0]
            .tolist()
        )
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not {spec.encoding} text; say data.encoding, for instance latin-1"
        ) from error
    except pd.errors.EmptyDataError as error:
        raise DataError(f"{path} is empty; expected a header and rows") from error
    except (ValueError, pd.errors.ParserError) as error:
        raise DataError(f"{path} cannot be read ({tried}): {error}") from error
    if table.empty:
        raise DataError(f"{path} has a header and no rows ({tried})")
    if isinstance(table.index, pd.MultiIndex) or not isinstance(table.index, pd.RangeIndex):
        raise DataError(
            f"{path}: rows have more values than the header has names ({tried})"
        )
    table.attrs[_NAMES] = names
    return table


def _check_encoding(name: str) -> None:
    try:
        codecs.lookup(name)
    except LookupError as error:
        raise DataError(
            f"data.encoding {name!r} is not an encoding, such as utf-8"
        ) from error


def _find_separator(path: Path, encoding: str) -> str:
    if path.suffix == ".tsv":
        return "\t"
    with path.open("rb") as file:
        head = file.read(65536).decode(
            encoding if encoding != "utf-8-sig" else "utf-8", errors="replace"
        )
    first = head.lstrip("\ufeff").splitlines()[0] if head.strip() else ""
    counts = {separator: first.count(separator) for separator in (",", ";", "\t", "|")}
    if max(counts.values()) > 0:
        return max(counts, key=lambda separator: counts[separator])
    try:
        return csv.Sniffer().sniff(head[:4096], delimiters=",;\t|").delimiter
    except csv.Error:
        return ","


def _read_parquet(path: Path) -> pd.DataFrame:
    try:
        table = pd.read_parquet(path)
    except ImportError as error:
        raise MissingExtraError(f"{path.name}", "parquet") from error
    except (ValueError, OSError) as error:
        raise DataError(f"{path} is not a readable Parquet file ({error})") from error
    if table.empty:
        raise DataError(f"{path} has no rows")
    names = [str(c) for c in table.columns]
    columns = [_as_text(table.iloc[:, i].reset_index(drop=True)) for i in range(len(names))]
    out = pd.DataFrame({name: columns[names.index(name)] for name in dict.fromkeys(names)})
    out.attrs[_NAMES] = names
    return out


def _as_text(column: pd.Series) -> pd.Series:
    return column.map(_text)


def _text(value: object) -> str:
    if (
        value is None
        or value is pd.NA
        or value is pd.NaT
        or (isinstance(value, float) and value != value)
    ):
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def need_column(table: pd.DataFrame, column: str, key: str, path: Path) -> None:
    """Raise DataError unless the table has exactly one column that the recipe names under `key`."""
    if column not in table:
        raise DataError(
            f"{path} has no column {column!r} ({key}); {nearest(column, table.columns)}"
        )
    n = table.attrs.get(_NAMES, []).count(column)
    if n > 1:
        raise DataError(
            f"{path} has {n} columns called {column!r} ({key}); rename or remove all but one"
        )
