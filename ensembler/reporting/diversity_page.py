"""One self-contained HTML page about how members differ."""

from __future__ import annotations

import numpy as np

from ensembler.blending.diversity import Diversity
from ensembler.reporting.page import Block, Chart, Page, Section, grid, render, section
from ensembler.reporting.svg import matrix
from ensembler.reporting.tables import Cell, Table


def diversity_page(run: str, found: Diversity) -> bytes:
    """The page as a file."""
    scale = max(float(found.disagreement.max()), 1e-9)
    disagreement = matrix(
        "Disagreement",
        found.names,
        found.names,
        found.disagreement / scale,
        found.disagreement,
    )
    correlation = matrix(
        "Error correlation",
        found.names,
        found.names,
        np.clip(found.error_correlation, 0, 1),
        found.error_correlation,
    )
    share = found.saves / np.maximum(found.class_sizes, 1)
    most = max(float(share.max()), 1e-9)
    saves = matrix("Who saves which class", found.names, found.classes, share / most, share)
    charts: list[tuple[str, str, Block | None]] = [
        (
            "disagreement",
            "Disagreement",
            Chart(disagreement, "Share of rows that two members classify differently."),
        ),
        (
            "correlation",
            "Error correlation",
            Chart(correlation, "Of being wrong: near 1 they err together."),
        ),
        (
            "saves",
            "Who saves which class",
            Chart(
                saves,
                "Share of a class's rows that the member gets right and the mean of the others "
                "gets wrong.",
            ),
        ),
        ("agreement", "Agreement with the others", grid(_agreement_table(found))),
    ]
    sections: list[Section] = []
    for name, title, block in charts:
        sections += section(name, title, [block])
    return render(Page(f"{run}: how its members differ", "", tuple(sections)))


def _agreement_table(found: Diversity) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for i, name in enumerate(found.names):
        test = None if found.agreement_test is None else float(found.agreement_test[i])
        note = "changes unlike the pool" if name in found.shifted else ""
        rows.append((name, float(found.agreement_oof[i]), test, note))
    columns = ("member", "out of fold", "test", "")
    return Table("Mean agreement with the other members", columns, tuple(rows), digits=3)
