"""What `ens audit` counts and finds, as tables."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from ensembler.reporting.tables import Table

if TYPE_CHECKING:
    from ensembler.audit.audit import Audit


def count_tables(audit: Audit) -> list[Table]:
    """The rows of each class by split, a table for each target."""
    tables = []
    for target, classes in audit.counts.get("classes", {}).items():
        named = set(chain.from_iterable(classes.values()))
        splits = sorted(named, reverse=True)
        rows = []
        for name, counted in classes.items():
            rows.append((name, *(counted.get(split, 0) for split in splits)))
        tables.append(Table(f"rows by class of {target}", ("class", *splits), tuple(rows)))
    return tables


def findings_table(audit: Audit) -> Table:
    """What was found, the most harmful first, and what fixes it."""
    rows = [
        (found.severity, found.code, found.message, found.fix) for found in audit.findings
    ]
    columns = ("severity", "code", "finding", "fix")
    return Table("findings", columns, tuple(rows), notes=(audit.verdict,))
