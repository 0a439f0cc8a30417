"""What `ens evaluate --over`, `diversity` and `ls` show, as tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ensembler.predictions.members import number_in
from ensembler.reporting.tables import Cell, Table

if TYPE_CHECKING:
    from pathlib import Path

    from ensembler.blending.judging.comparison import Difference
    from ensembler.evaluation.diversity import RunDiversity
    from ensembler.evaluation.ls import RunListing

MOST_IN_MATRIX = 12  # members in a matrix of every pair


def gains_table(
    over: str, rows: Sequence[tuple[str, Difference]], n_groups: int | None
) -> Table:
    """Gains over one prediction with the intervals that hold for all comparisons together."""
    body = [
        (
            name,
            gain.metric,
            f"{gain.value:+.4f}",
            f"{gain.joint_low:+.4f} to {gain.joint_high:+.4f}",
            gain.verdict,
        )
        for name, gain in rows
    ]
    n_comparisons = len({name for name, _ in rows})
    units = "rows" if n_groups is None else f"whole groups ({n_groups})"
    together = "one comparison for each metric"
    if n_comparisons > 1:
        together = (
            f"the intervals of a metric hold for its {n_comparisons} comparisons together, and are "
            "wider for it"
        )
    return Table(
        f"gain over {over} (positive is better)",
        ("name", "metric", "gain", "95 % interval", ""),
        tuple(body),
        notes=(f"Paired by row, independent {units}; {together}.",),
    )


def diversity_tables(result: RunDiversity) -> list[Table]:
    """Matrices of every pair in small pools, and each member beside the others."""
    found = result.found
    tables = []
    if len(found.names) <= MOST_IN_MATRIX:
        matrices = {
            "disagreement: share of rows classified differently": found.disagreement,
            "error correlation: do they err together": found.error_correlation,
        }
        for title, matrix in matrices.items():
            rows: list[tuple[Cell, ...]] = []
            for name, values in zip(found.names, matrix, strict=True):
                rows.append((name, *values.tolist()))
            columns = ("member", *found.names)
            tables.append(Table(f"{result.run}: {title}", columns, tuple(rows), digits=3))
    return [*tables, _members_table(result)]


def _members_table(result: RunDiversity) -> Table:
    found = result.found
    rows: list[tuple[Cell, ...]] = []
    for i, name in enumerate(found.names):
        saved, sizes = found.saves[i], found.class_sizes
        best = int((saved / sizes.clip(1)).argmax())
        most_of = f"{found.classes[best]} ({int(saved[best])} of {int(sizes[best])})"
        test = None if found.agreement_test is None else float(found.agreement_test[i])
        rows.append((name, float(found.agreement_oof[i]), test, int(saved.sum()), most_of))
    return Table(
        f"{result.run}: each member beside the others, {result.n_rows} rows",
        ("member", "agreement OOF", "agreement test", "rows saved", "most of"),
        tuple(rows),
        notes=tuple(
            f"{name} agrees with the others differently on test rows: a leak, or rows it sees "
            "differently."
            for name in found.shifted
        ),
        digits=3,
    )


def runs_table(folder: Path, runs: Sequence[RunListing]) -> Table:
    """Every run of a folder in a line."""
    rows = [
        (run.run, len(run.members), len(run.blends), "yes" if run.submission else "no")
        for run in runs
    ]
    columns = ("run", "members", "blends", "submission")
    return Table(f"runs in {folder}", columns, tuple(rows))


def listing_tables(listing: RunListing) -> list[Table]:
    """The members of a run, and its blends where there are any."""
    members = [
        (
            member.name,
            f"{member.folds_done}/{member.folds}",
            ", ".join(member.views) or None,
            number_in(member.scores, "oof", "accuracy"),
            number_in(member.scores, "oof", "log_loss"),
            member.state,
        )
        for member in listing.members
    ]
    columns = ("member", "folds", "views", "accuracy", "log loss", "state")
    tables = [Table(f"members of {listing.run}", columns, tuple(members))]
    if listing.blends:
        blends = [
            (
                blend.name,
                blend.method,
                blend.scores.get("log_loss"),
                blend.scores.get("accuracy"),
                "yes" if blend.submitted else "",
            )
            for blend in listing.blends
        ]
        of_blends = ("blend", "method", "log loss", "accuracy", "submitted")
        tables.append(Table("blends (cross-fitted)", of_blends, tuple(blends)))
    return tables
