"""JPEG files decoded by OpenCV, whose pixels equal Pillow's."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ensembler.data.decoding_memory import room_for
from ensembler.data.formats import NO_WARNINGS


@dataclass(frozen=True)
class JpegFacts:
    """What the header of a plain, whole colour JPEG says."""

    height: int
    width: int
    orientation: int


def decode_jpeg(content: bytes, facts: JpegFacts) -> NDArray[np.uint8] | None:
    """Decode with OpenCV; None sends the file to Pillow."""
    import cv2

    with room_for("JPEG", facts.height * facts.width):
        flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
        try:
            image = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
        except cv2.error:
            return None  # Pillow says what is wrong with it
        return None if image is None else upright(image, facts.orientation)


def upright(image: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
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


def jpeg_facts(content: bytes) -> JpegFacts | None:
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
            return JpegFacts(height, width, orientation or 1) if usual else None
        at += 2 + length
    return None


def _orientation(exif: bytes, xmp_turns: bool) -> int | None:
    """The orientation in EXIF, 1 where nothing says one.

    None when it is broken, or only XMP has one.
    """
    from PIL import Image

    if not exif:
        return None if xmp_turns else 1
    tags = Image.Exif()
    try:
        with NO_WARNINGS:
            tags.load(exif)
            found = tags.get(0x0112)
    # broken EXIF raises whatever it meets; Pillow then decides for the whole file
    except Exception:
        return None
    if found is None:
        return None if xmp_turns else 1
    return found if isinstance(found, int) else None
