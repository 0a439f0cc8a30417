"""Images as arrays, wherever they come from, and how they are fitted to what the networks see."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ensembler.data.decoding import AS_IT_IS, Decoding, decode
from ensembler.data.formats import Header, read_header
from ensembler.data.size import Size, sides

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif")


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

    def header(self, index: int) -> Header | None:
        """What is known of an image before it is decoded; None when it cannot be read."""
        ...

    def read(self, index: int, how: Decoding = AS_IT_IS) -> NDArray[np.uint8]:
        """The image, uint8 `[height, width, 3]` (RGB) or `[height, width]` (grey).

        ImageError when it is broken.
        """
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
        """Path, size and times of change.

        One time is that of the content, the other that of the file itself, which no copying tool
        sets back.
        """
        path = self.paths[index]
        status = path.stat()
        return f"{path}|{status.st_size}|{status.st_mtime_ns}|{status.st_ctime_ns}"

    def content(self, index: int) -> str:
        """The checksum of the file's bytes."""
        return checksum(self.paths[index].read_bytes())

    def header(self, index: int) -> Header | None:
        """The header of the file."""
        return read_header(self.paths[index])

    def read(self, index: int, how: Decoding = AS_IT_IS) -> NDArray[np.uint8]:
        """Decode the file."""
        return decode(self.paths[index], how)


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

    def header(self, index: int) -> Header | None:  # noqa: ARG002 they are all alike
        """The sides of the images in the array."""
        return Header(
            self.array.shape[1], self.array.shape[2], is_grey=self.array.ndim == 3, bits=8
        )

    def read(self, index: int, how: Decoding = AS_IT_IS) -> NDArray[np.uint8]:  # noqa: ARG002 they are decoded
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

    def header(self, index: int) -> Header | None:
        """As the others have it."""
        return self.images.header(self.positions[index])

    def read(self, index: int, how: Decoding = AS_IT_IS) -> NDArray[np.uint8]:
        """As the others read it."""
        return self.images.read(self.positions[index], how)


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

    def header(self, index: int) -> Header | None:
        """As its source has it."""
        part, i = self._find(index)
        return part.header(i)

    def read(self, index: int, how: Decoding = AS_IT_IS) -> NDArray[np.uint8]:
        """As its source reads it."""
        part, i = self._find(index)
        return part.read(i, how)


def checksum(content: bytes) -> str:
    """128 bits that tell one content from another, in hexadecimal."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def fit_to_input(
    image: NDArray[np.uint8], size: Size, channels: int, resize: str
) -> NDArray[np.uint8]:
    """Scale an image to `[height, width, channels]`, the sides being those of `size`.

    Shrinking averages areas, growing interpolates.
    """
    import cv2

    if image.ndim == 2 and channels == 3:
        image = np.repeat(image[:, :, None], 3, axis=2)
    elif image.ndim == 3 and channels == 1:
        image = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    height, width = sides(size)
    if resize == "crop":
        image = _centre(image, height, width)
    if resize in ("fit", "pad"):
        return _fit(image, (height, width), channels, edges=resize == "pad")
    return _scale(image, height, width).reshape(height, width, channels)


def _centre(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """The largest part about the centre whose sides are as `height` to `width`."""
    there = image.shape[:2]
    factor = min(there[0] / height, there[1] / width)
    inner = (max(1, round(height * factor)), max(1, round(width * factor)))
    top, left = (there[0] - inner[0]) // 2, (there[1] - inner[1]) // 2
    return image[top : top + inner[0], left : left + inner[1]]


def _scale(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Scale to `height` x `width`, each axis in its own way.

    An axis that shrinks averages areas, one that grows interpolates.
    """
    import cv2

    image = np.ascontiguousarray(image)
    smaller = (min(image.shape[0], height), min(image.shape[1], width))
    if image.shape[:2] != smaller:
        image = np.asarray(
            cv2.resize(image, smaller[::-1], interpolation=cv2.INTER_AREA), np.uint8
        )
    if smaller != (height, width):
        image = np.asarray(
            cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8
        )
    return image


def _fit(
    image: NDArray[np.uint8], within: tuple[int, int], channels: int, *, edges: bool
) -> NDArray[np.uint8]:
    height, width = image.shape[:2]
    factor = min(within[0] / height, within[1] / width)
    inner_height, inner_width = (
        max(1, round(height * factor)),
        max(1, round(width * factor)),
    )
    scaled = _scale(image, inner_height, inner_width).reshape(
        inner_height, inner_width, channels
    )
    top, left = (within[0] - inner_height) // 2, (within[1] - inner_width) // 2
    if edges:
        rows = np.clip(np.arange(within[0]) - top, 0, inner_height - 1)
        columns = np.clip(np.arange(within[1]) - left, 0, inner_width - 1)
        return np.ascontiguousarray(scaled[rows][:, columns])
    out = np.zeros((*within, channels), np.uint8)
    out[top : top + inner_height, left : left + inner_width] = scaled
    return out
