"""What is to be known of every image: size, format, checksums, a perceptual hash and a thumbnail.

Looked at once.
"""

from __future__ import annotations

import hashlib
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensembler.data.formats import open_image
from ensembler.data.images import Images, checksum, fit_to_input
from ensembler.errors import DataError
from ensembler.files import write_aside
from ensembler.machine.cores import available_cores
from ensembler.progress import QUIET, Progress

THUMB = 16
_VERSION = 1


@dataclass(frozen=True)
class ImageFacts:
    """Facts by image, in the images' order.

    `width` and `height` in pixels (0 = not readable), `kind` such as "JPEG RGB", `content` and
    `pixels` checksums of the file and of what it shows, `phash` 64 bits that hardly change when the
    image is scaled or compressed again, `spread` the largest deviation of a colour, `thumb` uint8
    `[images, 16, 16, 3]`, `fault` why it cannot be read ("" = it can), `fault_code` the code of
    that error.
    """

    width: NDArray[np.int32]
    height: NDArray[np.int32]
    kind: NDArray[np.str_]
    content: NDArray[np.str_]
    pixels: NDArray[np.str_]
    phash: NDArray[np.uint64]
    spread: NDArray[np.float32]
    thumb: NDArray[np.uint8]
    fault: NDArray[np.str_]
    fault_code: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.width)

    @property
    def readable(self) -> NDArray[np.bool_]:
        """Which images can be read."""
        return self.fault == ""

    @property
    def mode(self) -> NDArray[np.str_]:
        """What Pillow calls the kind of pixels, such as RGB or L."""
        modes = [kind.rpartition(" ")[2] for kind in self.kind.tolist()]
        return np.array(modes, dtype=np.str_)

    @property
    def blank(self) -> NDArray[np.bool_]:
        """Which images show one colour and nothing else."""
        return self.readable & (self.spread < 1.0)


# What the cache keeps. An image with a fault is looked at each time, so its code need not be kept.
_TYPES: dict[str, str] = {
    "width": "<i4",
    "height": "<i4",
    "kind": "<U24",
    "content": "<U32",
    "pixels": "<U32",
    "phash": "<u8",
    "spread": "<f4",
    "thumb": "u1",
    "fault": "<U160",
}


def look_at_images(images: Images, cache: Path, progress: Progress = QUIET) -> ImageFacts:
    """Look at every image, in parallel.

    What was seen of unchanged files is taken from the cache.
    """
    names = [images.name(i) for i in range(len(images))]
    fingerprints = np.array([_fingerprint(images, i) for i in range(len(images))])
    key = hashlib.sha256(
        "\n".join([str(_VERSION), *names]).encode(errors="surrogateescape")
    ).hexdigest()[:24]
    path = cache / f"audit-{key}.npz"
    old = _read(path)
    arrays: dict[str, Any] = {
        name: np.zeros(
            (len(images), THUMB, THUMB, 3) if name == "thumb" else len(images), dtype
        )
        for name, dtype in {**_TYPES, "fault_code": "<U16"}.items()
    }
    todo = list(range(len(images)))
    if old is not None and len(old["fingerprint"]) == len(images):
        # One that could not be read is looked at again: a limit may have been raised meanwhile.
        same = (old["fingerprint"] == fingerprints) & (old["fault"] == "")
        for name in _TYPES:
            arrays[name][same] = old[name][same]
        todo = np.flatnonzero(~same).tolist()
    if todo:
        _look(images, todo, arrays, progress)
        cache.mkdir(parents=True, exist_ok=True)
        with write_aside(path) as file:
            np.savez(
                file, fingerprint=fingerprints, **{name: arrays[name] for name in _TYPES}
            )
    return ImageFacts(**arrays)


def _fingerprint(images: Images, index: int) -> str:
    try:
        return images.fingerprint(index)
    except OSError:
        return "missing"


def _read(path: Path) -> dict[str, NDArray[Any]] | None:
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            return {name: file[name] for name in ("fingerprint", *_TYPES)}
    except (FileNotFoundError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None  # not there, or not whole: everything is looked at again


def _look(
    images: Images, todo: list[int], arrays: dict[str, Any], progress: Progress
) -> None:
    import cv2

    cv2.setNumThreads(0)  # one image a thread

    def look(i: int) -> None:
        for name, value in _facts(images, i).items():
            arrays[name][i] = value

    with ThreadPoolExecutor(available_cores()) as pool:
        for done, _ in enumerate(pool.map(look, todo), start=1):
            if done % 50 == 0 or done == len(todo):
                progress.step("looking at images", done, len(todo))


def _facts(images: Images, i: int) -> dict[str, Any]:
    path = Path(images.name(i))
    in_file = path.is_file()
    try:
        image = images.read(i)
    except DataError as error:
        content = checksum(path.read_bytes()) if in_file else ""
        return {"fault": error.fault[:160], "fault_code": error.code, "content": content}
    thumb = fit_to_input(image, THUMB, 3, "stretch")
    return {
        "width": image.shape[1],
        "height": image.shape[0],
        "kind": _kind(path) if in_file else f"array {'RGB' if image.ndim == 3 else 'L'}",
        "content": checksum(path.read_bytes()) if in_file else "",
        "pixels": checksum(
            f"{image.shape}".encode() + np.ascontiguousarray(image).tobytes()
        ),
        "phash": perceptual_hash(image),
        "spread": float(
            image.reshape(image.shape[0] * image.shape[1], -1).std(axis=0).max()
        ),
        "thumb": thumb,
    }


def _kind(path: Path) -> str:
    with open_image(path) as opened:
        return f"{opened.format} {opened.mode}"[:24]


def perceptual_hash(image: NDArray[np.uint8]) -> int:
    """The perceptual hash (pHash) of an image, 64 bits.

    A bit says whether one of the 8 x 8 lowest frequencies of the grey image at 32 x 32 is above
    their median.
    """
    import cv2

    grey = fit_to_input(image, 32, 1, "stretch").reshape(32, 32).astype(np.float32)
    low = cv2.dct(grey)[:8, :8].ravel()
    bits = low > np.median(low[1:])  # the first is the mean brightness
    return int(np.packbits(bits).view(">u8")[0])
