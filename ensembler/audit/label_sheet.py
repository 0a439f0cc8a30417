"""A sheet of pictures: suspect labels, the most suspect first, with what they are and may be."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ensembler.data.images import Images, fit_to_input
from ensembler.errors import DataError, RequestError
from ensembler.outputs import check_output, write_output

MOST_PICTURES = 100
_COLUMNS = 10
_TILE = 112
_LINE = 13  # pixels of a line of text
_MOST_LETTERS = 18


def check_sheet(out: Path) -> None:
    """Raise RequestError when no sheet can be written to `out`."""
    if out.suffix.lower() != ".png":
        raise RequestError(f"--sheet {out}: expected the name of a PNG file")
    check_output(out)


def write_label_sheet(
    images: Images, positions: Sequence[int], captions: Sequence[Sequence[str]], out: Path
) -> None:
    """Write a PNG of the first pictures at `positions`, with lines of text below each."""
    from PIL import Image, ImageDraw

    shown = list(zip(positions, captions, strict=True))[:MOST_PICTURES]
    n_lines = max((len(lines) for _, lines in shown), default=0)
    height = _TILE + n_lines * _LINE + 8
    n_rows = max(1, -(-len(shown) // _COLUMNS))
    sheet = Image.new("RGB", (_COLUMNS * (_TILE + 8), n_rows * height), "white")
    draw = ImageDraw.Draw(sheet)
    for i, (position, lines) in enumerate(shown):
        left, top = (i % _COLUMNS) * (_TILE + 8) + 4, (i // _COLUMNS) * height + 4
        sheet.paste(Image.fromarray(_tile(images, position)), (left, top))
        for at, line in enumerate(lines):
            place = (left, top + _TILE + at * _LINE)
            draw.text(place, _drawable(line), fill="black")
    buffer = io.BytesIO()
    sheet.save(buffer, format="PNG")
    write_output(out, buffer.getvalue())


def _tile(images: Images, position: int) -> NDArray[np.uint8]:
    """An image as a tile; one that cannot be read is grey."""
    try:
        image = images.read(position)
    except DataError:
        return np.full((_TILE, _TILE, 3), 128, np.uint8)
    squeezed = image[:, :, 0] if image.ndim == 3 and image.shape[2] == 1 else image
    return fit_to_input(squeezed, _TILE, 3, "fit")


def _drawable(text: str) -> str:
    """What a small sheet and its font can show of a text."""
    short = text if len(text) <= _MOST_LETTERS else f"{text[: _MOST_LETTERS - 2]}.."
    return short.encode("latin-1", "replace").decode("latin-1")
