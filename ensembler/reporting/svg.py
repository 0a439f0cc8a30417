"""Charts as small SVG pictures: lines, intervals, bars, points and matrices, without a library.

Colours are classes (`s0` to `s7` for series, `m0` to `m9` for the shades of a matrix) that the page
gives a meaning, so that a picture follows light and dark. All text is escaped here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

SERIES = 8  # colours of series, which then repeat
SHADES = 10  # of a matrix
_MOST_NUMBERS = 14  # classes up to which the cells of a matrix hold their numbers
_MOST_NAMES = 60  # rows up to which those of a matrix are named
_TEXT = 26  # characters of a name in a chart
_POINTS = 400  # of a line that are drawn


@dataclass(frozen=True)
class Line:
    """A line by its name; places where `y` is not finite are left out."""

    name: str
    x: Sequence[float]
    y: Sequence[float]


@dataclass(frozen=True)
class Interval:
    """A value with its interval, which may be missing (NaN); `marked` ones stand out."""

    name: str
    value: float
    low: float
    high: float
    marked: bool = False


@dataclass(frozen=True)
class _Scale:
    """From figures to places on one axis."""

    low: float
    high: float
    start: float
    end: float

    @classmethod
    def around(cls, values: Iterable[float], start: float, end: float) -> _Scale:
        finite = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
        low, high = min(finite), max(finite)
        margin = 0.05 * (high - low) or max(abs(high) * 0.05, 1e-9)
        return cls(low - margin, high + margin, start, end)

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return self.start + min(max(share, 0.0), 1.0) * (self.end - self.start)

    def ticks(self, about: int = 5) -> list[float]:
        """Round figures inside the axis."""
        rough = (self.high - self.low) / about
        power = 10.0 ** math.floor(math.log10(rough))
        steps = (power * factor for factor in (1, 2, 5, 10))
        step = next(step for step in steps if step >= rough * 0.999)
        first = math.ceil(self.low / step)
        last = math.floor(self.high / step + 1e-9)
        return [round(i * step, 12) for i in range(first, last + 1)]


def lines(
    title: str,
    x_label: str,
    y_label: str,
    series: Sequence[Line],
    *,
    diagonal: bool = False,
) -> Markup:
    """Lines over a common x; with `diagonal` the line of equal x and y is drawn, too."""
    width, height, left, bottom = 640, 300, 56, 44
    x = _Scale.around((v for line in series for v in line.x), left, width - 12)
    y = _Scale.around((v for line in series for v in line.y), height - bottom, 12)
    parts = [
        *_grid(x, y, width, height - bottom),
        *_labels(x_label, y_label, width, height),
    ]
    if diagonal:
        ends = max(x.low, y.low), min(x.high, y.high)
        parts.append(
            f'<path class="axis dash" d="M{x(ends[0]):.1f} {y(ends[0]):.1f}'
            f'L{x(ends[1]):.1f} {y(ends[1]):.1f}"/>'
        )
    for i, line in enumerate(series):
        parts.append(_path(line, x, y, f"s{i % SERIES}"))
    return _svg(title, width, height, parts)


def _path(line: Line, x: _Scale, y: _Scale, colour: str) -> str:
    step = max(1, len(line.x) // _POINTS)
    points = [
        f"{x(a):.1f} {y(b):.1f}"
        for a, b in list(zip(line.x, line.y, strict=True))[::step]
        if math.isfinite(b)
    ]
    name = escape(line.name)
    if len(points) == 1:
        cx, cy = points[0].split()
        dot = f'<circle class="dot {colour}" cx="{cx}" cy="{cy}" r="3">'
        return f"{dot}<title>{name}</title></circle>"
    return (
        f'<path class="line {colour}" d="M{"L".join(points)}"><title>{name}</title></path>'
    )


def intervals(title: str, x_label: str, rows: Sequence[Interval]) -> Markup:
    """Values with their intervals, one below the other."""
    width, left, line = 640, 190, 20
    height = len(rows) * line + 48
    ends = [v for row in rows for v in (row.value, row.low, row.high)]
    x = _Scale.around(ends, left, width - 16)
    bottom = height - 40
    parts = [*_x_grid(x, bottom), _text((left + width) / 2, height - 6, x_label, "middle")]
    for i, row in enumerate(rows):
        y = 14 + i * line
        colour = "s1" if row.marked else "s0"
        parts.append(_text(left - 8, y + 4, row.name, "end"))
        if math.isfinite(row.low) and math.isfinite(row.high):
            reach = f"M{x(row.low):.1f} {y}H{x(row.high):.1f}"
            parts.append(f'<path class="line {colour}" d="{reach}"/>')
        if math.isfinite(row.value):
            says = f"{row.name}: {row.value:.4g} ({row.low:.4g} to {row.high:.4g})"
            parts.append(
                f'<circle class="dot {colour}" cx="{x(row.value):.1f}" cy="{y}" r="4">'
                f"<title>{escape(says)}</title></circle>"
            )
    return _svg(title, width, height, parts)


def bars(
    title: str, x_label: str, names: Sequence[str], parts_of: Sequence[Sequence[float]]
) -> Markup:
    """A bar for each name, made of parts laid end to end, each part with its own colour."""
    width, left, line = 640, 190, 18
    height = len(names) * line + 44
    totals = [sum(values) for values in parts_of]
    x = _Scale(0.0, max(totals, default=1.0) or 1.0, left, width - 60)
    parts = [
        *_x_grid(x, height - 36),
        _text((left + width) / 2, height - 6, x_label, "middle"),
    ]
    for i, (name, values) in enumerate(zip(names, parts_of, strict=True)):
        y, at = 6 + i * line, 0.0
        parts.append(_text(left - 8, y + 11, name, "end"))
        for part, value in enumerate(values):
            start, end = x(at), x(at + value)
            parts.append(
                f'<rect class="fill s{part % SERIES}" x="{start:.1f}" y="{y}" '
                f'width="{max(end - start, 0):.1f}" height="{line - 5}"/>'
            )
            at += value
        parts.append(_text(x(at) + 5, y + 11, f"{totals[i]:,.6g}", "start"))
    return _svg(title, width, height, parts)


def matrix(
    title: str,
    rows: Sequence[str],
    columns: Sequence[str],
    shares: NDArray[np.floating],
    shown: NDArray[np.number],
) -> Markup:
    """A matrix whose cells are shaded by `shares` from 0 to 1 and say the figures `shown`.

    Small ones hold the figures; in large ones the page says the cell that is pointed at.
    """
    numbers = max(len(rows), len(columns)) <= _MOST_NUMBERS
    cell = 40 if numbers else max(4, min(14, 1100 // max(len(rows), len(columns))))
    named = max(len(rows), len(columns)) <= _MOST_NAMES
    left, top = (170, 116) if named else (4, 4)
    width, height = left + cell * len(columns) + 4, top + cell * len(rows) + 4
    parts = _cells(shares, left, top, cell)
    if named:
        for i, name in enumerate(rows):
            parts.append(_text(left - 6, top + (i + 0.5) * cell + 4, name, "end"))
        for j, name in enumerate(columns):
            x, y = left + (j + 0.5) * cell + 4, top - 6
            turned = f'transform="rotate(-60 {x:.0f} {y})"'
            parts.append(_text(x, y, name, "start", turned, most=20))
    if numbers:
        parts += _figures(shares, shown, left, top, cell)
    data = json.dumps(
        {
            "rows": list(rows),
            "columns": list(columns),
            "cells": [[_short(v) for v in line] for line in shown.tolist()],
            "place": [left, top, cell],
        },
        ensure_ascii=False,
    )
    return _svg(title, width, height, parts, f'data-matrix="{escape(data)}"')


def _short(value: float) -> float | None:
    """A figure in three digits, so that a large matrix stays small."""
    if not math.isfinite(value):
        return None
    return value if isinstance(value, int) else float(f"{value:.3g}")


def _cells(shares: NDArray[np.floating], left: int, top: int, cell: int) -> list[str]:
    """One path for all cells of a shade."""
    levels = np.clip(np.ceil(np.nan_to_num(shares) * (SHADES - 1)), 0, SHADES - 1)
    height, width = cell * shares.shape[0], cell * shares.shape[1]
    parts = [f'<rect class="m0" x="{left}" y="{top}" width="{width}" height="{height}"/>']
    for level in range(1, SHADES):
        where = np.argwhere(levels == level)
        if not len(where):
            continue
        squares = "".join(
            f"M{left + j * cell} {top + i * cell}h{cell}v{cell}h-{cell}z"
            for i, j in where.tolist()
        )
        parts.append(f'<path class="m{level}" d="{squares}"/>')
    return parts


def _figures(
    shares: NDArray[np.floating],
    shown: NDArray[np.number],
    left: int,
    top: int,
    cell: int,
) -> list[str]:
    parts = []
    for (i, j), value in np.ndenumerate(shown):
        if not np.isfinite(value) or value == 0:
            continue
        figure = f"{value}" if np.issubdtype(shown.dtype, np.integer) else f"{value:.2f}"
        kind = 'class="on"' if shares[i, j] > 0.55 else ""
        x, y = left + (j + 0.5) * cell, top + (i + 0.5) * cell + 4
        parts.append(_text(x, y, figure, "middle", kind))
    return parts


def _grid(x: _Scale, y: _Scale, width: int, bottom: float) -> list[str]:
    parts = _x_grid(x, bottom)
    for tick in y.ticks():
        at = y(tick)
        parts.append(f'<path class="grid" d="M{x.start:.0f} {at:.1f}H{width - 12}"/>')
        parts.append(_text(x.start - 6, at + 4, f"{tick:g}", "end"))
    return parts


def _x_grid(x: _Scale, bottom: float) -> list[str]:
    parts = []
    for tick in x.ticks():
        at = x(tick)
        parts.append(f'<path class="grid" d="M{at:.1f} 4V{bottom:.0f}"/>')
        parts.append(_text(at, bottom + 15, f"{tick:,g}", "middle"))
    return parts


def _labels(x_label: str, y_label: str, width: int, height: int) -> list[str]:
    turned = f'transform="rotate(-90 12 {height / 2 - 16:.0f})"'
    return [
        _text(width / 2, height - 6, x_label, "middle"),
        _text(12, height / 2 - 16, y_label, "middle", turned),
    ]


def _text(
    x: float, y: float, text: str, anchor: str, more: str = "", *, most: int = _TEXT
) -> str:
    """A text at a place; a long one is cut, and said whole when it is pointed at."""
    attributes = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    if len(text) <= most:
        return f"<text {attributes} {more}>{escape(text)}</text>"
    cut = escape(text[: most - 1] + "…")
    return f"<text {attributes} {more}>{cut}<title>{escape(text)}</title></text>"


def _svg(
    title: str, width: float, height: float, parts: Sequence[str], more: str = ""
) -> Markup:
    head = (
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" role="img" '
        f'aria-label="{escape(title)}" {more}>'
    )
    return Markup(head + "".join(map(str, parts)) + "</svg>")
