"""Tables as values: what the terminal, a notebook and a page show alike."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

Cell = str | int | float | None


@dataclass(frozen=True)
class Table:
    """A table: cells are text, counts or figures, which have `digits` after the point.

    None = nothing to show. `notes` are sentences below it, `best` the positions of rows that stand
    out.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()
    best: tuple[int, ...] = ()
    digits: int = 4

    def texts(self) -> list[list[str]]:
        """The cells as they are shown."""
        return [[cell_text(cell, self.digits) for cell in row] for row in self.rows]

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{escape(column)}</th>" for column in self.columns)
        body = "".join(self._html_row(i, texts) for i, texts in enumerate(self.texts()))
        notes = "".join(f"<p>{escape(note)}</p>" for note in self.notes)
        table = f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody>"
        return f"<table><caption>{escape(self.title)}</caption>{table}</table>{notes}"

    def _html_row(self, position: int, texts: Sequence[str]) -> str:
        style = ' style="font-weight: bold"' if position in self.best else ""
        cells = "".join(f"<td>{escape(text)}</td>" for text in texts)
        return f"<tr{style}>{cells}</tr>"


def html_of(tables: Sequence[Table]) -> str:
    """Several tables for a notebook, one below the other."""
    return "".join(table._repr_html_() for table in tables)


def cell_text(cell: Cell, digits: int = 4) -> str:
    """A cell as it is shown; a dash when there is nothing to show."""
    if isinstance(cell, str):
        return cell
    if isinstance(cell, int):
        return str(cell)
    return number(cell, digits)


def number(value: float | None, digits: int = 4) -> str:
    """A figure of a table; a dash when there is none."""
    if value is None or not math.isfinite(value):
        return "-"
    return f"{value:.{digits}f}"


def duration(seconds: float) -> str:
    """Seconds in the form 45 s, 3 min 20 s or 2 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
