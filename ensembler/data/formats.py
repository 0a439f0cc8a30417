"""Which files are images, how large they may be, and what they say before their pixels."""

from __future__ import annotations

import os
import threading
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from ensembler.errors import RequestError

# Pillow asks no other decoder: that of PostScript, for one, would start a program.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
# A larger image is a decompression bomb or a mistake; `ENS_MAX_MEGAPIXELS` overrides the limit.
MEGAPIXELS = 30.0
_FIRST_BYTES = (
    b"\xff\xd8\xff",
    b"\x89PNG\r\n\x1a\n",
    b"GIF87a",
    b"GIF89a",
    b"II*\0",
    b"MM\0*",
    b"II+\0",
    b"MM\0+",
)
_BMP_HEADERS = (12, 40, 52, 56, 64, 108, 124)  # bytes
DEEP_MODES = ("I;16", "I;16L", "I;16B", "I;16N")
_GREY_MODES = ("L", "1", "I", "F", "LA", *DEEP_MODES)


def max_pixels() -> int:
    """How many pixels an image may have.

    30 million, or the megapixels in `ENS_MAX_MEGAPIXELS`.
    """
    given = os.environ.get("ENS_MAX_MEGAPIXELS", str(MEGAPIXELS))
    try:
        limit = float(given)
    except ValueError:
        limit = 0.0
    if not 0 < limit < 4096:
        raise RequestError(
            f"ENS_MAX_MEGAPIXELS={given!r}: expected the megapixels an image may have, such as 60"
        )
    return int(limit * 1e6)


def open_image(file: Path | IO[bytes]) -> Any:
    """Open an image with Pillow without decoding it, in the formats that count alone."""
    from PIL import Image

    # Pillow has a limit of its own, which would stand below one that a user has raised.
    if Image.MAX_IMAGE_PIXELS is not None and max_pixels() > Image.MAX_IMAGE_PIXELS:
        Image.MAX_IMAGE_PIXELS = max_pixels()
    return Image.open(file, formats=FORMATS)


def looks_like_image(path: Path) -> bool:
    """Whether a file begins as one of the formats that count do, whatever it is called."""
    try:
        with path.open("rb") as file:
            head = file.read(32)
    except OSError:
        return False
    webp = head[:4] == b"RIFF" and head[8:12] == b"WEBP"
    bmp = head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in _BMP_HEADERS
    return webp or bmp or head.startswith(_FIRST_BYTES)


@dataclass(frozen=True)
class Header:
    """What an image file says about itself before its pixels.

    The sides as stored, and how many bits a grey level has.
    """

    height: int
    width: int
    is_grey: bool
    bits: int


def read_header(path: Path) -> Header | None:
    """The header of an image file; None when it is not there or not readable."""
    try:
        with NO_WARNINGS, open_image(path) as opened:
            return Header(
                opened.height, opened.width, opened.mode in _GREY_MODES, bits_of(opened)
            )
    except RequestError:
        raise
    # whatever a decoder stumbles over: `decode` names the file and its fault
    except Exception:
        return None


def bits_of(image: Any) -> int:
    """How many bits a grey level has: what a TIFF says of its samples, else what the mode holds."""
    if image.mode not in (*DEEP_MODES, "I"):
        return 8
    said = getattr(image, "tag_v2", {}).get(258)  # BitsPerSample
    bits = said[0] if isinstance(said, tuple) and said else said
    return bits if isinstance(bits, int) and 8 < bits < 16 else 16


class NoWarnings:
    """Suppresses Pillow's warnings of large images and odd metadata.

    It does so however many threads decode at once. `warnings.catch_warnings` in every thread would
    leave the filters of one thread behind in all others.
    """

    def __init__(self) -> None:
        self._begin()
        # The threads of a forked process's parent are not there to leave the block.
        os.register_at_fork(after_in_child=self._begin)

    def _begin(self) -> None:
        self._lock, self._inside = threading.Lock(), 0
        self._kept = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._kept = warnings.catch_warnings()
                self._kept.__enter__()
                warnings.simplefilter("ignore")
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._kept.__exit__(None, None, None)


NO_WARNINGS = NoWarnings()
