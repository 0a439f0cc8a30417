"""Names that a line of a table can hold: ids, groups and labels without control characters."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ensembler.errors import DataError

# tabs and line feeds are quoted where they stand
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def check_plain_text(names: Iterable[object], what: str, where: str) -> None:
    """Raise DataError for the first of `names` with a control character in it.

    A carriage return is one.
    """
    texts = [name for name in names if isinstance(name, str)]
    if _CONTROL.search("\n".join(texts)) is None:
        return
    first = next(text for text in texts if _CONTROL.search(text))
    raise DataError(
        f"{where}: {what} {first!r} has a control character in it (such as a carriage "
        "return), which tables cannot hold; rename it"
    )
