"""One self-contained HTML page about how members differ; the plots are SVG inside it."""

from __future__ import annotations

import io
from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensembler.blending.diversity import Diversity
from ensembler.errors import MissingExtraError

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; \
padding: 0 1rem; color: #222; }
table { border-collapse: collapse; } \
td, th { padding: .2rem .7rem; text-align: right; border-bottom: 1px solid #ddd; }
td:first-child, th:first-child { text-align: left; } svg { max-width: 100%; height: auto; }
"""


def diversity_page(run: str, found: Diversity) -> str:
    """The page as text; MissingExtraError without matplotlib."""
    plots = [
        (
            "Disagreement",
            "Share of rows that two members classify differently.",
            found.disagreement,
            "viridis",
        ),
        (
            "Error correlation",
            "Of being wrong: near 1 they err together.",
            found.error_correlation,
            "magma",
        ),
    ]
    sections = [
        f"<h2>{escape(title)}</h2><p>{escape(text)}</p>"
        f"{_heatmap(values, found.names, found.names, colours)}"
        for title, text, values, colours in plots
    ]
    share = found.saves / np.maximum(found.class_sizes, 1)
    text = (
        "Share of a class's rows that the member gets right "
        "and the mean of the others gets wrong."
    )
    sections.append(f"<h2>Who saves which class</h2><p>{text}</p>")
    sections.append(_heatmap(share, found.names, found.classes, "cividis"))
    sections.append("<h2>Agreement with the others</h2>" + _agreement_table(found))
    return (
        f"<!doctype html><html lang='en'><head><meta charset='utf-8'><title>{escape(run)}: "
        "diversity</title>"
        f"<style>{_STYLE}</style></head><body><h1>{escape(run)}: how its members differ</h1>"
        f"{''.join(sections)}</body></html>\n"
    )


def _agreement_table(found: Diversity) -> str:
    rows = []
    for i, name in enumerate(found.names):
        test = "-" if found.agreement_test is None else f"{found.agreement_test[i]:.3f}"
        note = "changes unlike the pool" if name in found.shifted else ""
        cells = [name, f"{found.agreement_oof[i]:.3f}", test, note]
        rows.append(
            "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>"
        )
    return (
        "<table><tr><th>member</th><th>out of fold</th><th>test</th><th></th></tr>"
        f"{''.join(rows)}</table>"
    )


def _heatmap(
    values: NDArray[np.floating], rows: Sequence[str], columns: Sequence[str], colours: str
) -> str:
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("a page with plots", "report") from error
    size = (min(14.0, 2.5 + 0.35 * len(columns)), min(14.0, 1.5 + 0.3 * len(rows)))
    figure = Figure(figsize=size, layout="constrained")
    axes: Any = figure.subplots()
    image = axes.imshow(values, cmap=colours, aspect="auto")
    if len(columns) <= 60:
        axes.set_xticks(
            range(len(columns)), columns, rotation=90, fontsize=8, parse_math=False
        )
    if len(rows) <= 60:
        axes.set_yticks(range(len(rows)), rows, fontsize=8, parse_math=False)
    figure.colorbar(image, ax=axes)
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "ensembler", "svg.fonttype": "path"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]
