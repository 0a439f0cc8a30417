"""Image files decoded to uint8."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensembler.data.decoding_memory import room_for
from ensembler.data.formats import FORMATS, NO_WARNINGS, bits_of, max_pixels, open_image
from ensembler.data.jpeg import decode_jpeg, jpeg_facts
from ensembler.data.to_uint8 import deep_colour, is_deep_colour, to_uint8
from ensembler.errors import ImageError, RequestError


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
    facts = jpeg_facts(content)
    reduced = (
        facts is not None
        and how.at_least is not None
        and min(facts.height, facts.width) >= 2 * how.at_least
    )
    if facts is not None and not reduced and facts.height * facts.width <= limit:
        image = decode_jpeg(content, facts)
        if image is not None:
            return image
    return _decode_with_pillow(path, content, limit, how)


def pixels_of_opened(image: Any) -> NDArray[np.uint8]:
    """The pixels of an image that Pillow has opened, as `decode` gives those of a file."""
    from PIL import ImageOps

    upright = ImageOps.exif_transpose(image)
    return to_uint8(upright, bits_of(image))


def _decode_with_pillow(
    path: Path, content: bytes, limit: int, how: Decoding
) -> NDArray[np.uint8]:
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with NO_WARNINGS, open_image(io.BytesIO(content)) as opened:
            if opened.width * opened.height > limit:
                raise _too_large(path, f"{opened.width} x {opened.height} pixels are")
            with room_for(opened.format, opened.width * opened.height):
                if how.bits is not None and is_deep_colour(opened, content):
                    return deep_colour(content, how.bits, opened.getexif().get(0x0112, 1))
                if how.at_least is not None:
                    # libjpeg decodes to a fraction; others do not
                    opened.draft(None, (how.at_least, how.at_least))
                opened.load()
                # Orientation is read from the file itself; a converted copy may have lost it.
                ImageOps.exif_transpose(opened, in_place=True)
                return to_uint8(opened, how.bits or bits_of(opened))
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
    # a decoder that meets nonsense raises whatever it stumbles over
    except Exception as error:
        fault = f"broken or cut short ({error or type(error).__name__})"
        raise ImageError.of(path, fault) from error


def _too_large(path: Path, pixels: str) -> ImageError:
    limit = f"{max_pixels() / 1e6:g} megapixels"
    advice = "scale it down, leave it out, or allow more with ENS_MAX_MEGAPIXELS"
    return ImageError.of(path, f"{pixels} more than {limit}; {advice}", "too_large")
