"""Images as arrays: any common file, decoded to RGB or grey uint8, upright, nothing silently replaced."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ensembler.errors import DataError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif")
MAX_PIXELS = 120_000_000  # above this a file is a decompression bomb or a mistake


class Images(Protocol):
    """Images by position."""

    def __len__(self) -> int: ...

    def name(self, index: int) -> str:
        """How messages call an image."""
        ...

    def fingerprint(self, index: int) -> str:
        """A cheap sign of an image's content: it changes when the file does."""
        ...

    def content(self, index: int) -> str:
        """A checksum of an image's content, wherever it lies and whatever it is called."""
        ...

    def read(self, index: int) -> NDArray[np.uint8]:
        """The image, uint8 `[height, width, 3]` (RGB) or `[height, width]` (grey); DataError when it is broken."""
        ...


@dataclass(frozen=True)
class FileImages:
    """Images in files."""

    paths: Sequence[Path]

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, index: int) -> str:
        """The file's path."""
        return str(self.paths[index])

    def fingerprint(self, index: int) -> str:
        """Path, size and times of change: of the content, and of the file itself, which no copying tool sets back."""
        path = self.paths[index]
        status = path.stat()
        return f"{path}|{status.st_size}|{status.st_mtime_ns}|{status.st_ctime_ns}"

    def content(self, index: int) -> str:
        """The checksum of the file's bytes."""
        return checksum(self.paths[index].read_bytes())

    def read(self, index: int) -> NDArray[np.uint8]:
        """Decode the file."""
        return decode(self.paths[index])


@dataclass(frozen=True)
class ArrayImages:
    """Images in one array `[images, height, width(, 3)]`."""

    array: NDArray[np.uint8]
    label: str

    def __len__(self) -> int:
        return len(self.array)

    def name(self, index: int) -> str:
        """The data set's name and the position."""
        return f"{self.label}[{index}]"

    def fingerprint(self, index: int) -> str:
        """The checksum of the pixels."""
        return checksum(np.ascontiguousarray(self.array[index]).tobytes())

    def content(self, index: int) -> str:
        """The checksum of the pixels."""
        return self.fingerprint(index)

    def read(self, index: int) -> NDArray[np.uint8]:
        """Return the pixels."""
        return self.array[index]


@dataclass(frozen=True)
class ChosenImages:
    """Some images of others, in a given order."""

    images: Images
    positions: Sequence[int]

    def __len__(self) -> int:
        return len(self.positions)

    def name(self, index: int) -> str:
        """As the others call it."""
        return self.images.name(self.positions[index])

    def fingerprint(self, index: int) -> str:
        """As the others have it."""
        return self.images.fingerprint(self.positions[index])

    def content(self, index: int) -> str:
        """As the others have it."""
        return self.images.content(self.positions[index])

    def read(self, index: int) -> NDArray[np.uint8]:
        """As the others read it."""
        return self.images.read(self.positions[index])


@dataclass(frozen=True)
class JoinedImages:
    """The images of several sources one after the other."""

    parts: Sequence[Images]

    def __len__(self) -> int:
        return sum(len(part) for part in self.parts)

    def _find(self, index: int) -> tuple[Images, int]:
        for part in self.parts:
            if index < len(part):
                return part, index
            index -= len(part)
        raise IndexError(index)

    def name(self, index: int) -> str:
        """As its source calls it."""
        part, i = self._find(index)
        return part.name(i)

    def fingerprint(self, index: int) -> str:
        """As its source has it."""
        part, i = self._find(index)
        return part.fingerprint(i)

    def content(self, index: int) -> str:
        """As its source has it."""
        part, i = self._find(index)
        return part.content(i)

    def read(self, index: int) -> NDArray[np.uint8]:
        """As its source reads it."""
        part, i = self._find(index)
        return part.read(i)


def checksum(content: bytes) -> str:
    """128 bits that tell one content from another, in hexadecimal."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def decode(path: Path) -> NDArray[np.uint8]:
    """Decode an image file to uint8 `[height, width, 3]` (RGB) or `[height, width]` (grey).

    EXIF rotation is applied, 16 bits are scaled to 8, transparency is laid on white, the first frame of a GIF or TIFF
    counts. Raises DataError naming the file and its fault.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise DataError(f"{path}: there is no such image") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    if not content:
        raise DataError(f"{path}: the file is empty")
    if content[:3] == b"\xff\xd8\xff":
        image = _decode_jpeg(content)
        if image is not None:
            return image
    return _decode_with_pillow(path, content)


def _decode_jpeg(content: bytes) -> NDArray[np.uint8] | None:
    """Decode a plain, whole colour JPEG with OpenCV, whose pixels equal Pillow's; None sends it to Pillow."""
    # A cut file ends without the end-of-image marker; OpenCV would fill the rest with grey and say nothing.
    if b"\xff\xd9" not in content[-64:]:
        return None
    facts = _jpeg_facts(content)
    if facts is None:
        return None
    height, width, channels = facts
    if channels != 3 or height * width > MAX_PIXELS:
        return None
    import cv2

    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB)
    return None if image is None else image


def _jpeg_facts(content: bytes) -> tuple[int, int, int] | None:
    """Height, width and number of channels in a JPEG's header; None when it also has EXIF or an Adobe transform."""
    at = 2
    while at + 9 < len(content):
        if content[at] != 0xFF:
            return None
        marker, length = content[at + 1], int.from_bytes(content[at + 2 : at + 4], "big")
        if marker in (0xE1, 0xEE):
            return None
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height = int.from_bytes(content[at + 5 : at + 7], "big")
            width = int.from_bytes(content[at + 7 : at + 9], "big")
            return height, width, content[at + 9]
        at += 2 + length
    return None


def _decode_with_pillow(path: Path, content: bytes) -> NDArray[np.uint8]:
    import io

    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(content)) as opened:
                if opened.width * opened.height > MAX_PIXELS:
                    raise DataError(
                        f"{path}: {opened.width} x {opened.height} pixels are more than {MAX_PIXELS:,}; "
                        "scale it down or leave it out"
                    )
                opened.load()
                # Orientation is read from the file itself; a converted copy may have lost it.
                upright = ImageOps.exif_transpose(opened)
                return _to_uint8(upright)
    except UnidentifiedImageError as error:
        raise DataError(f"{path}: not an image in a format that can be read") from error
    except Image.DecompressionBombError as error:
        raise DataError(f"{path}: too many pixels ({error}); scale it down or leave it out") from error
    except DataError:
        raise
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, MemoryError) as error:
        raise DataError(f"{path}: broken or cut short ({error})") from error


def _to_uint8(image: Any) -> NDArray[np.uint8]:
    from PIL import Image

    if image.mode in ("I;16", "I;16L", "I;16B", "I;16N", "I"):
        values = np.asarray(image).astype(np.int64)
        # Mode I holds 16 bits in nearly every file; Pillow's own conversion would clip them to white. Of one that
        # does not say how many bits it has, small values can only mean 8.
        scale = 257 if image.mode != "I" or values.max(initial=0) > 255 else 1
        return np.clip(np.round(values / scale), 0, 255).astype(np.uint8)
    if image.mode == "F":
        values = np.asarray(image)
        return np.clip(values * (255 if values.max(initial=0) <= 1 else 1), 0, 255).round().astype(np.uint8)
    if image.mode in ("L", "1"):
        return np.asarray(image.convert("L"))
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        ground = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return np.asarray(Image.alpha_composite(ground, rgba).convert("RGB"))
    return np.asarray(image.convert("RGB"))


def fit_to_input(image: NDArray[np.uint8], size: int, channels: int, resize: str) -> NDArray[np.uint8]:
    """Scale an image to `[size, size, channels]`; shrinking averages areas, growing interpolates."""
    import cv2

    if image.ndim == 2 and channels == 3:
        image = np.repeat(image[:, :, None], 3, axis=2)
    elif image.ndim == 3 and channels == 1:
        image = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    height, width = image.shape[:2]
    if resize == "crop":
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        image = image[top : top + side, left : left + side]
        height = width = side
    if resize in ("fit", "pad"):
        return _fit(image, size, channels, edges=resize == "pad")
    return _scale(image, size, size).reshape(size, size, channels)


def _scale(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    import cv2

    if image.shape[:2] == (height, width):
        return np.ascontiguousarray(image)
    shrinking = image.shape[0] > height and image.shape[1] > width
    how = cv2.INTER_AREA if shrinking else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(np.ascontiguousarray(image), (width, height), interpolation=how), np.uint8)


def _fit(image: NDArray[np.uint8], size: int, channels: int, *, edges: bool) -> NDArray[np.uint8]:
    height, width = image.shape[:2]
    factor = size / max(height, width)
    inner_height, inner_width = max(1, round(height * factor)), max(1, round(width * factor))
    scaled = _scale(image, inner_height, inner_width).reshape(inner_height, inner_width, channels)
    top, left = (size - inner_height) // 2, (size - inner_width) // 2
    if edges:
        rows = np.clip(np.arange(size) - top, 0, inner_height - 1)
        columns = np.clip(np.arange(size) - left, 0, inner_width - 1)
        return np.ascontiguousarray(scaled[rows][:, columns])
    out = np.zeros((size, size, channels), np.uint8)
    out[top : top + inner_height, left : left + inner_width] = scaled
    return out
