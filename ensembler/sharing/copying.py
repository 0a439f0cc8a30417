"""Copying a file whose content is known by its digest."""

from __future__ import annotations

import hashlib
from typing import IO

from ensembler.errors import StoreError

PIECE = 1 << 20  # bytes


def copied(source: IO[bytes], into: IO[bytes] | None, size: int) -> str:
    """Copy exactly `size` bytes, or only read them, and return their sha256.

    Raises StoreError for a source that ends earlier.
    """
    found, left = hashlib.sha256(), size
    while left > 0:
        piece = source.read(min(PIECE, left))
        if not piece:
            raise StoreError(f"ends {left} bytes before its {size} bytes")
        found.update(piece)
        left -= len(piece)
        if into is not None:
            into.write(piece)
    return found.hexdigest()
