"""Columns read from the paths of images: `data.pattern`, such as `{person}_{gender}_{age:int}/`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from ensembler.data.spec import DataSpec
from ensembler.data.tables import need_column
from ensembler.errors import DataError

_FIELD = re.compile(r"\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(:(?P<kind>int))?\}")


def pattern_columns(
    table: pd.DataFrame, data: DataSpec, path: Path, *, needed: bool
) -> pd.DataFrame:
    """The table with a column for each field of `data.pattern`, read from the image paths.

    A path that does not match is an error when `needed`, else its fields are empty. Raises
    DataError for a field whose name is a column already.
    """
    if data.pattern is None:
        return table
    need_column(table, data.path, "data.path", path)
    fields = [match["name"] for match in _FIELD.finditer(data.pattern)]
    taken = [name for name in fields if name in table]
    if taken:
        raise DataError(
            f"{path} has a column {taken[0]!r} already; give the field of data.pattern another name"
        )
    expression = _expression(data.pattern)
    found = [expression.search(given.strip()) for given in table[data.path]]
    if needed and None in found:
        row = found.index(None)
        raise DataError(
            f"{path} row {int(table.index[row]) + 2}: path {table[data.path].iloc[row]!r} does not "
            f"match data.pattern {data.pattern!r}"
        )
    return table.assign(**{name: _values_of(name, found) for name in fields})


def _values_of(field: str, found: Sequence[re.Match[str] | None]) -> list[str]:
    return ["" if match is None else match[field] for match in found]


def _expression(pattern: str) -> re.Pattern[str]:
    parts, at = [r"(?:^|/)"], 0
    for match in _FIELD.finditer(pattern):
        parts.append(re.escape(pattern[at : match.start()]))
        values = r"\d+" if match["kind"] == "int" else "[^/]+?"
        parts.append(f"(?P<{match['name']}>{values})")
        at = match.end()
    parts.append(re.escape(pattern[at:]))
    if not pattern.endswith("/"):
        parts.append(r"(?=$|/|\.[^./]+$)")  # a last field ends before the suffix
    return re.compile("".join(parts))
