"""A page of HTML that needs nothing else: sections of text, tables, charts and pictures.

What a page holds are values; `render` writes them by one template. No request leaves the page: its
content security policy allows the one script and the one style by their digests, pictures as data,
and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import ClassVar

from markupsafe import Markup

from ensembler.reporting.tables import Cell, Table, cell_text

FILTERED = 15  # rows from which a table can be filtered


@dataclass(frozen=True)
class Text:
    """Paragraphs; `tone` is "note", "good" or "bad" for those that stand out."""

    kind: ClassVar[str] = "text"
    paragraphs: tuple[str, ...]
    tone: str = ""


@dataclass(frozen=True)
class Grid:
    """A table that sorts by its columns and, when it is long, filters."""

    kind: ClassVar[str] = "grid"
    table: Table

    @property
    def cells(self) -> list[list[tuple[str, bool]]]:
        """The cells as they are shown, and whether each is text and no figure."""
        return [[self._cell(cell) for cell in row] for row in self.table.rows]

    def _cell(self, cell: Cell) -> tuple[str, bool]:
        is_text = isinstance(cell, str) and not cell[:1].isdigit()
        return cell_text(cell, self.table.digits), is_text

    @property
    def is_filtered(self) -> bool:
        """Whether a field to filter it is shown."""
        return len(self.table.rows) >= FILTERED


@dataclass(frozen=True)
class Chart:
    """An SVG picture and what it shows; `legend` names its series in the order of their colours."""

    kind: ClassVar[str] = "chart"
    svg: Markup
    caption: str
    legend: tuple[str, ...] = ()


@dataclass(frozen=True)
class Picture:
    """A picture as a data URI, and lines below it."""

    source: str
    alt: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Pictures:
    """A sheet of pictures."""

    kind: ClassVar[str] = "pictures"
    title: str
    pictures: tuple[Picture, ...]
    is_wide: bool = False  # one picture below the other


@dataclass(frozen=True)
class Facts:
    """Pairs of a term and what it is."""

    kind: ClassVar[str] = "facts"
    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Code:
    """Text as it is in a file or a terminal."""

    kind: ClassVar[str] = "code"
    title: str
    text: str


@dataclass(frozen=True)
class Folded:
    """Blocks behind a line that opens them."""

    kind: ClassVar[str] = "folded"
    title: str
    blocks: tuple[Block, ...]


Block = Text | Grid | Chart | Pictures | Facts | Code | Folded


@dataclass(frozen=True)
class Section:
    """A part of a page with its own heading; `name` is its place in links."""

    name: str
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Page:
    """A whole page: the sections that have something to say, the answer first."""

    title: str
    lead: str
    sections: tuple[Section, ...]
    foot: tuple[str, ...] = field(default=())
    reload: int | None = (
        None  # seconds after which a page that is served loads itself again
    )


def section(name: str, title: str, blocks: Sequence[Block | None]) -> list[Section]:
    """A section of those blocks that are there; none without any."""
    found = tuple(block for block in blocks if block is not None)
    return [Section(name, title, found)] if found else []


def grid(table: Table | None) -> Grid | None:
    """A table as a block; None for one without rows."""
    return Grid(table) if table is not None and table.rows else None


def render(page: Page) -> bytes:
    """The page as one file."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    style, script = _resource("page.css"), _resource("page.js")
    policy = (
        "default-src 'none'; img-src data:; form-action 'none'; base-uri 'none'; "
        f"style-src '{_digest(style)}'; script-src '{_digest(script)}'"
    )
    text = environment.from_string(_resource("page.html")).render(
        page=page,
        policy=policy,
        style=Markup(style),
        script=Markup(script),
    )
    return text.encode("utf-8", "replace")


@cache
def _resource(name: str) -> str:
    return files("ensembler.reporting").joinpath(name).read_text("utf-8")


def _digest(text: str) -> str:
    """What a content security policy calls an inline script or style by."""
    sha256 = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(sha256).decode()}"
