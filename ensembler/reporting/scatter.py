"""A scatter of points with intervals as one SVG, drawn without a library."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP, _RIGHT = 760, 420, 70, 50, 30, 150
_COLOURS = ("#0b7285", "#d9480f", "#5f3dc4", "#2b8a3e", "#a61e4d", "#495057")


@dataclass(frozen=True)
class Mark:
    """A point: `x` above 0, `y` from `low` to `high`, its label, and the kind that colours it."""

    x: float
    y: float
    low: float
    high: float
    label: str
    kind: str


def scatter(title: str, x_label: str, y_label: str, marks: Sequence[Mark]) -> str:
    """The marks as an SVG document, `x` in powers of two."""
    kinds = list(dict.fromkeys(mark.kind for mark in marks))
    frame = _Frame.around(marks)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'font-family="system-ui, sans-serif" font-size="12"><title>{escape(title)}</title>',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        _text(_LEFT, 18, title, size=14),
        *_axes(frame, x_label, y_label),
    ]
    for mark in marks:
        parts.append(_mark(frame, mark, _COLOURS[kinds.index(mark.kind) % len(_COLOURS)]))
    return "\n".join([*parts, "</svg>\n"])


@dataclass(frozen=True)
class _Frame:
    """From figures to places: logarithms of x, and y."""

    left: float
    right: float
    low: float
    high: float

    @classmethod
    def around(cls, marks: Sequence[Mark]) -> _Frame:
        xs = [math.log2(mark.x) for mark in marks]
        lows = [mark.low if math.isfinite(mark.low) else mark.y for mark in marks]
        highs = [mark.high if math.isfinite(mark.high) else mark.y for mark in marks]
        margin = 0.05 * (max(highs) - min(lows)) or 0.1
        return cls(min(xs) - 0.5, max(xs) + 0.5, min(lows) - margin, max(highs) + margin)

    def x(self, value: float) -> float:
        share = (math.log2(value) - self.left) / (self.right - self.left)
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _BOTTOM - _TOP)


def _axes(frame: _Frame, x_label: str, y_label: str) -> list[str]:
    bottom, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    parts = [
        f'<path d="M{_LEFT} {_TOP}V{bottom}H{right}" fill="none" stroke="#868e96"/>',
        _text((_LEFT + right) / 2, _HEIGHT - 12, x_label, anchor="middle"),
        _text(8, _TOP - 6, y_label),
    ]
    for power in range(math.ceil(frame.left), math.floor(frame.right) + 1):
        parts.append(
            _text(frame.x(2.0**power), bottom + 16, f"{2.0**power:g}", anchor="middle")
        )
    for step in range(5):
        value = frame.low + step / 4 * (frame.high - frame.low)
        parts.append(_text(_LEFT - 6, frame.y(value) + 4, f"{value:.3f}", anchor="end"))
    return parts


def _mark(frame: _Frame, mark: Mark, colour: str) -> str:
    x, y = frame.x(mark.x), frame.y(mark.y)
    return (
        f'<path d="M{x:.1f} {frame.y(mark.low):.1f}V{frame.y(mark.high):.1f}" stroke="{colour}" '
        f'stroke-opacity="0.5" stroke-width="2"/><circle cx="{x:.1f}" cy="{y:.1f}" r="4" '
        f'fill="{colour}"/>{_text(x + 7, y - 5, mark.label, fill=colour)}'
    )


def _text(
    x: float,
    y: float,
    text: str,
    *,
    anchor: str = "start",
    size: int = 12,
    fill: str = "#212529",
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{fill}">'
        f"{escape(text)}</text>"
    )
