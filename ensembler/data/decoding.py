"""Image files decoded to uint8.

Which formats are read, how large an image may be, and how many are decoded at once.
"""

from __future__ import annotations

import io
import os
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ensembler.errors import ImageError, RequestError
from ensembler.machine.memory import machine_memory

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
# pixels converted at once, so that a conversion takes little beside the image itself
_BAND = 1 << 20
# at the peak of decoding, as measured; of the other formats:
_BYTES_PER_PIXEL = {"WEBP": 18}
_BYTES_OF_OTHERS = 12


@dataclass(frozen=True)
class Decoding:
    """How an image is decoded.

    With `at_least`, a JPEG may come at 1/2, 1/4 or 1/8 of its sides as long as none is shorter than
    that. `bits` says how many bits the levels of 16-bit files use (None: what the file says, else
    16).
    """

    at_least: int | None = None
    bits: int | None = None


AS_IT_IS = Decoding()


def decode(path: Path, how: Decoding = AS_IT_IS) -> NDArray[np.uint8]:
    """Decode an image file to uint8 `[height, width, 3]` (RGB) or `[height, width]` (grey).

    EXIF rotation is applied, 16 bits are scaled to 8, transparency is laid on white, the first
    frame of a GIF or TIFF counts. Raises ImageError naming the file and its fault.
    """
    limit = max_pixels()
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise ImageError.of(path, "there is no such image", "missing") from error
    except OSError as error:
        raise ImageError.of(path, f"cannot be read ({error.strerror})") from error
    if not content:
        raise ImageError.of(path, "the file is empty", "empty")
    facts = _jpeg_facts(content)
    reduced = (
        facts is not None
        and how.at_least is not None
        and min(facts.height, facts.width) >= 2 * how.at_least
    )
    if facts is not None and not reduced and facts.height * facts.width <= limit:
        image = _decode_jpeg(content, facts)
        if image is not None:
            return image
    return _decode_with_pillow(path, content, limit, how)


def pixels_of_opened(image: Any) -> NDArray[np.uint8]:
    """The pixels of an image that Pillow has opened, as `decode` gives those of a file."""
    from PIL import ImageOps

    upright = ImageOps.exif_transpose(image)
    return _to_uint8(upright, _bits(image))


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
        with _quiet, open_image(path) as opened:
            return Header(
                opened.height, opened.width, opened.mode in _GREY_MODES, _bits(opened)
            )
    except RequestError:
        raise
    except (
        Exception
    ):  # whatever a decoder stumbles over: `decode` names the file and its fault
        return None


class _Quiet:
    """Suppresses Pillow's warnings of large images and odd metadata.

    It does so however many threads decode at once. `warnings.catch_warnings` in every thread would
    leave the filters of one thread behind in all others.
    """

    def __init__(self) -> None:
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


_quiet = _Quiet()


# --- JPEG by OpenCV, whose pixels equal Pillow's
# ---------------------------------------------------------------------


@dataclass(frozen=True)
class _JpegFacts:
    """What the header of a plain, whole colour JPEG says."""

    height: int
    width: int
    orientation: int


def _decode_jpeg(content: bytes, facts: _JpegFacts) -> NDArray[np.uint8] | None:
    """Decode with OpenCV; None sends the file to Pillow."""
    import cv2

    with _room_for("JPEG", facts.height * facts.width):
        flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
        try:
            image = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
        except cv2.error:
            return None  # Pillow says what is wrong with it
        return None if image is None else _upright(image, facts.orientation)


def _upright(image: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """The image turned as an EXIF orientation says."""
    import cv2

    if orientation in (5, 7):
        image = cv2.transpose(image)
    if orientation in (2, 4):
        return np.asarray(cv2.flip(image, 1 if orientation == 2 else 0))
    turns = {
        3: cv2.ROTATE_180,
        6: cv2.ROTATE_90_CLOCKWISE,
        7: cv2.ROTATE_180,
        8: cv2.ROTATE_90_COUNTERCLOCKWISE,
    }
    return (
        np.asarray(cv2.rotate(image, turns[orientation])) if orientation in turns else image
    )


def _jpeg_facts(content: bytes) -> _JpegFacts | None:
    """What the header of a colour JPEG says.

    None when it is cut short, or something that Pillow knows better.
    """
    # A cut file ends without the end-of-image marker; OpenCV would fill the rest with grey and say
    # nothing.
    if content[:3] != b"\xff\xd8\xff" or b"\xff\xd9" not in content[-64:]:
        return None
    at, exif, xmp_turns = 2, b"", False
    while at + 9 < len(content):
        if content[at] != 0xFF:
            return None
        marker, length = content[at + 1], int.from_bytes(content[at + 2 : at + 4], "big")
        if marker == 0xE1:
            segment = content[at + 4 : at + 2 + length]
            if segment.startswith(b"Exif\0\0"):
                exif += segment if not exif else segment[6:]
            else:
                xmp_turns |= b"Orientation" in segment
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height = int.from_bytes(content[at + 5 : at + 7], "big")
            width = int.from_bytes(content[at + 7 : at + 9], "big")
            orientation = _orientation(exif, xmp_turns)
            usual = content[at + 9] == 3 and orientation is not None
            return _JpegFacts(height, width, orientation or 1) if usual else None
        at += 2 + length
    return None


def _orientation(exif: bytes, xmp_turns: bool) -> int | None:
    """The orientation in EXIF, 1 where nothing says one.

    None when it is broken, or stands in XMP alone.
    """
    from PIL import Image

    if not exif:
        return None if xmp_turns else 1
    tags = Image.Exif()
    try:
        with _quiet:
            tags.load(exif)
            found = tags.get(0x0112)
    except (
        Exception
    ):  # broken EXIF raises whatever it meets; Pillow then decides for the whole file
        return None
    if found is None:
        return None if xmp_turns else 1
    return found if isinstance(found, int) else None


# --- everything else by Pillow
# ---------------------------------------------------------------------------------------


def _decode_with_pillow(
    path: Path, content: bytes, limit: int, how: Decoding
) -> NDArray[np.uint8]:
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with _quiet, open_image(io.BytesIO(content)) as opened:
            if opened.width * opened.height > limit:
                raise _too_large(path, f"{opened.width} x {opened.height} pixels are")
            with _room_for(opened.format, opened.width * opened.height):
                if how.bits is not None and _is_deep_colour(opened, content):
                    return _deep_colour(content, how.bits, opened.getexif().get(0x0112, 1))
                if how.at_least is not None:
                    # libjpeg decodes to a fraction; others do not
                    opened.draft(None, (how.at_least, how.at_least))
                opened.load()
                # Orientation is read from the file itself; a converted copy may have lost it.
                ImageOps.exif_transpose(opened, in_place=True)
                return _to_uint8(opened, how.bits or _bits(opened))
    except UnidentifiedImageError as error:
        kinds = ", ".join(FORMATS)
        fault = f"not an image in a format that can be read ({kinds})"
        raise ImageError.of(path, fault) from error
    except Image.DecompressionBombError as error:
        raise _too_large(path, "its pixels are") from error
    except RequestError:
        raise
    except MemoryError as error:
        raise ImageError.of(path, "there is not enough memory to decode it") from error
    except (
        Exception
    ) as error:  # a decoder that meets nonsense raises whatever it stumbles over
        fault = f"broken or cut short ({error or type(error).__name__})"
        raise ImageError.of(path, fault) from error


def _too_large(path: Path, pixels: str) -> ImageError:
    limit = f"{max_pixels() / 1e6:g} megapixels"
    advice = "scale it down, leave it out, or allow more with ENS_MAX_MEGAPIXELS"
    return ImageError.of(path, f"{pixels} more than {limit}; {advice}", "too_large")


def _bits(image: Any) -> int:
    """How many bits a grey level has: what a TIFF says of its samples, else what the mode holds."""
    if image.mode not in (*DEEP_MODES, "I"):
        return 8
    said = getattr(image, "tag_v2", {}).get(258)  # BitsPerSample
    bits = said[0] if isinstance(said, tuple) and said else said
    return bits if isinstance(bits, int) and 8 < bits < 16 else 16


def _is_deep_colour(image: Any, content: bytes) -> bool:
    """Whether it has colours of 16 bits, of which Pillow keeps the upper 8."""
    if image.format == "PNG":
        return content[24] == 16 and content[25] in (2, 6)
    said = getattr(image, "tag_v2", {}).get(258)
    return isinstance(said, tuple) and len(said) >= 3 and said[0] == 16


def _deep_colour(content: bytes, bits: int, orientation: int) -> NDArray[np.uint8]:
    import cv2

    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if image is None or image.dtype != np.uint16 or image.ndim != 3:
        raise ValueError("its 16-bit colours cannot be read")
    colour = _levels(bits)[image[:, :, 2::-1]]
    if image.shape[2] == 4:
        alpha = image[:, :, 3:] / np.float32(65535)
        colour = np.round(colour * alpha + 255 * (1 - alpha)).astype(np.uint8)
    return _upright(np.ascontiguousarray(colour), orientation)


def _levels(bits: int) -> NDArray[np.uint8]:
    """What each of 65,536 levels becomes when those of `bits` bits are spread over 8.

    Higher ones are white.
    """
    return np.clip(np.round(np.arange(65536) * (255 / (2**bits - 1))), 0, 255).astype(
        np.uint8
    )


def _to_uint8(image: Any, bits: int) -> NDArray[np.uint8]:
    """The pixels of a decoded image, converted band by band.

    No whole copy of it is made in another type.
    """
    convert = _conversion(image, bits)
    out: NDArray[np.uint8] | None = None
    for top, band in _bands(image):
        pixels = convert(band)
        if out is None:
            out = np.empty((image.height, *pixels.shape[1:]), np.uint8)
        out[top : top + len(pixels)] = pixels
    if out is None:
        raise ValueError("it has no pixels")
    return out


def _bands(image: Any) -> Iterator[tuple[int, Any]]:
    rows = max(1, _BAND // max(1, image.width))
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(image.height, top + rows)))


def _conversion(image: Any, bits: int) -> Callable[[Any], NDArray[np.uint8]]:
    """How a band of the image becomes uint8; `bits` are those of its grey levels."""
    if image.mode in DEEP_MODES:
        levels = _levels(bits)
        return lambda band: levels[np.asarray(band)]
    if image.mode == "I":
        # It holds 16 bits in nearly every file; Pillow's own conversion would clip them to white.
        # As it does not say how many bits it has, small values can only mean 8.
        return _scaled(255 / (2**bits - 1) if _highest(image) > 255 else 1.0)
    if image.mode == "F":
        return _scaled(255.0 if _highest(image) <= 1 else 1.0)
    if image.mode in ("L", "1"):
        return lambda band: np.asarray(band.convert("L"))
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        return _on_white
    return lambda band: np.asarray(band.convert("RGB"))


def _highest(image: Any) -> float:
    return max(
        (float(np.nanmax(np.asarray(band), initial=0)) for _, band in _bands(image)),
        default=0.0,
    )


def _scaled(factor: float) -> Callable[[Any], NDArray[np.uint8]]:
    def convert(band: Any) -> NDArray[np.uint8]:
        values = np.round(np.asarray(band) * factor)
        return np.clip(np.nan_to_num(values), 0, 255).astype(np.uint8)

    return convert


def _on_white(band: Any) -> NDArray[np.uint8]:
    from PIL import Image

    rgba = band.convert("RGBA")
    ground = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
    return np.asarray(Image.alpha_composite(ground, rgba).convert("RGB"))


# --- memory
# ---------------------------------------------------------------------------------------


class _Memory:
    """Bytes that decoding threads share.

    A thread that asks for more than is left waits until others are done.
    """

    def __init__(self, size: int) -> None:
        self.size, self._free = size, size
        self._changed = threading.Condition()

    @contextmanager
    def taken(self, amount: int) -> Iterator[None]:
        """Hold `amount` bytes while the block runs.

        What is larger than everything there is runs alone.
        """
        amount = min(amount, self.size)
        with self._changed:
            self._changed.wait_for(lambda: self._free >= amount)
            self._free -= amount
        try:
            yield
        finally:
            with self._changed:
                self._free += amount
                self._changed.notify_all()


_memory = _Memory(machine_memory() // 4)


def _share_after_fork() -> None:
    """Give a forked process its own share of the memory.

    A loader's worker is one of several, and its parent's threads are not there to release what they
    hold.
    """
    global _memory, _quiet
    _quiet = _Quiet()
    _memory = _Memory(_memory.size // (os.cpu_count() or 1))


os.register_at_fork(after_in_child=_share_after_fork)


@contextmanager
def _room_for(kind: str | None, n_pixels: int) -> Iterator[None]:
    with _memory.taken(n_pixels * _BYTES_PER_PIXEL.get(kind or "", _BYTES_OF_OTHERS)):
        yield
