"""Problems of groups: on both sides of a split, or in a column that is not used as a group."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pandas as pd

from ensembler.audit.columns import GroupLike
from ensembler.audit.findings import Finding, Severity
from ensembler.data.samples import SampleSet

FIX_GROUP_LEAK = "folds: {scheme: stratified-group}"
_FIX_ACROSS_PARTS = (
    "leave their rows out of one of the two, or do not trust scores on the test part"
)


def find_split_groups(samples: SampleSet, folds: pd.Series | None) -> Iterator[Finding]:
    """Groups on both sides of train and test, or of a fold."""
    table = samples.table
    if "group" not in table:
        return
    is_test = table["source"] == "test"
    both = set(table["group"][is_test].dropna()) & set(table["group"][~is_test].dropna())
    if both:
        message = (
            f"{len(both)} groups are in train and in test, such as {sorted(both)[0]!r}"
        )
        files, facts = _files_of(table, both), {"across": "train and test"}
        yield Finding("group_leak", "warning", message, _FIX_ACROSS_PARTS, files, facts)
    split = _in_several_folds(table, folds)
    if split:
        message = f"{len(split)} groups are in several folds, such as {sorted(split)[0]!r}"
        files, facts = _files_of(table, split), {"across": "folds"}
        yield Finding("group_leak", "error", message, FIX_GROUP_LEAK, files, facts)


def _in_several_folds(table: pd.DataFrame, folds: pd.Series | None) -> set[str]:
    if folds is None:
        return set()
    validated = folds >= 0
    pairs = pd.DataFrame({"group": table["group"][validated], "fold": folds[validated]})
    n_folds = pairs.drop_duplicates()["group"].value_counts()
    return set(n_folds.index[n_folds > 1])


def _files_of(table: pd.DataFrame, groups: set[str]) -> tuple[str, ...]:
    return tuple(table.loc[table["group"].isin(groups), "path"])


def find_unused_groups(
    found: Sequence[GroupLike], group: str | None, n_folds: int
) -> Iterator[Finding]:
    """Columns and parts of paths that look like a group and are not used as one."""
    for one in found:
        where = (
            f"the paths' part {one.pattern!r}" if one.pattern else f"column {one.column!r}"
        )
        sizes = f"{one.n_values} values, at most {one.largest} files each"
        message = f"{where} looks like a group ({sizes}) and is not used as one"
        if one.alike is not None and not one.only_named:
            message += (
                f"; images that share a value look more alike in {one.alike:.0%} of pairs"
            )
        severity: Severity = "warning" if group is None and not one.only_named else "note"
        facts = {"column": one.pattern or one.column, "values": one.n_values}
        fix = line_that_groups(one, n_folds)
        yield Finding("ungrouped_column", severity, message, fix, (), facts)


def line_that_groups(one: GroupLike, n_folds: int) -> str:
    """The recipe line that makes a group of what looks like one."""
    folds = f", folds: {{count: {one.n_values}}}" if one.n_values < n_folds else ""
    if one.pattern:
        return f"data: {{pattern: '{one.pattern}', group: group}}{folds}"
    return f"data: {{group: {one.column}}}{folds}"
