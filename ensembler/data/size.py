"""The size of what networks see: one number for a square, else height and width."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, Discriminator, Field, Tag, WithJsonSchema

Size = int | tuple[int, int]

_Side = Annotated[int, Field(ge=8, le=2048)]


def size_of(height: int, width: int) -> Size:
    """Two sides as a size."""
    return height if height == width else (height, width)


def sides(size: Size) -> tuple[int, int]:
    """Height and width."""
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def shown(size: Size) -> str:
    """A size as messages and names of files have it: 64, or 384x288."""
    return "x".join(map(str, [size] if isinstance(size, int) else size))


def area(size: Size) -> int:
    """How many pixels that is."""
    height, width = sides(size)
    return height * width


def _form(given: Any) -> str:
    return "sides" if isinstance(given, (list, tuple)) else "side"


def _simplest(given: Size) -> Size:
    return size_of(*sides(given))


_SIDE_SCHEMA = {"type": "integer", "minimum": 8, "maximum": 2048}
# As a recipe says it; [64, 64] is 64.
SizeGiven = Annotated[
    Annotated[_Side, Tag("side")] | Annotated[tuple[_Side, _Side], Tag("sides")],
    Discriminator(_form),
    AfterValidator(_simplest),
    WithJsonSchema(
        {
            "anyOf": [
                _SIDE_SCHEMA,
                {"type": "array", "items": _SIDE_SCHEMA, "minItems": 2, "maxItems": 2},
            ]
        }
    ),
]
