"""The one order of names, above all of classes: the same in every process, for any hash seed."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

Key = tuple[tuple[int, float, str], ...]

_NUMBER, _PART_NUMBER, _PART_TEXT, _WHOLE = range(4)


def natural(name: str) -> Key:
    """The key of the natural order: numbers by value, then other names, digits in them by value.

    So a name with 2 comes before the same name with 10. The order is total: names that are equal as
    numbers (1.1 and 1.10, 1 and 01, 1e3 and 1000) follow each other as text, and nan, which no
    number compares with, follows the numbers.
    """
    number = number_of(name)
    if number is not None:
        return ((_NUMBER, number, name),)
    pieces = [_piece(part) for part in re.split(r"(\d+)", name.lower())]
    return (*pieces, (_WHOLE, 0, name))


def _piece(part: str) -> tuple[int, float, str]:
    if not part.isdecimal():
        return (_PART_TEXT, 0, part)
    # the longer one is the larger number, however many digits it has
    digits = part.lstrip("0")
    return (_PART_NUMBER, len(digits), digits)


def text_after_numbers(name: str) -> Key:
    """The key of the order in which other tools write columns.

    Numbers by value, then other names as plain text.
    """
    number = number_of(name)
    return ((_WHOLE, 0, name),) if number is None else ((_NUMBER, number, name),)


def number_of(name: str) -> float | None:
    """The number that a name reads as, nan being larger than any; None when it is none."""
    try:
        number = float(name)
    except ValueError:
        return None
    return math.inf if math.isnan(number) else number


def in_natural_order(names: Iterable[str]) -> tuple[str, ...]:
    """Names, a set of them as well as a list, in their natural order."""
    return tuple(sorted(names, key=natural))


def is_plain_number(name: str) -> bool:
    """Whether a name is how a whole number is written: "1", but not "01", which is another name."""
    return name == "0" or (name.isascii() and name.isdecimal() and not name.startswith("0"))
