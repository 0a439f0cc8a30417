"""Data sets that need no manifest: scikit-learn's digits, and Fashion-MNIST from its four files."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ensembler.data.images import ArrayImages
from ensembler.errors import DataError

FASHION_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
_FASHION_FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}


@dataclass(frozen=True)
class BuiltInPart:
    """The train or test part of a data set: `labels` are positions among its classes."""

    split: str
    ids: Sequence[str]
    labels: NDArray[np.int64]
    images: ArrayImages


def read_digits(root: str | None) -> tuple[list[BuiltInPart], tuple[str, ...]]:
    """The 1,797 handwritten digits, 8 x 8 grey, that come with scikit-learn.

    One part, all labelled.
    """
    from sklearn.datasets import load_digits

    if root is not None:
        raise DataError("data.root is not used with digits: they come with scikit-learn")
    bunch = load_digits()
    pixels = np.round(bunch.images * (255 / 16)).astype(np.uint8)
    ids = [f"digits-{i:04d}" for i in range(len(pixels))]
    classes = tuple(str(i) for i in range(10))
    return [
        BuiltInPart(
            "train", ids, bunch.target.astype(np.int64), ArrayImages(pixels, "digits")
        )
    ], classes


def read_fashion_mnist(root: str | None) -> tuple[list[BuiltInPart], tuple[str, ...]]:
    """Fashion-MNIST from its four idx files (plain or .gz) in `root`; the test part is labelled."""
    if root is None:
        raise DataError(
            "fashion-mnist needs data.root: the folder that holds its four idx files"
        )
    parts = []
    for split, (image_file, label_file) in _FASHION_FILES.items():
        pixels = read_idx(_find(Path(root), image_file), dimensions=3)
        labels = read_idx(_find(Path(root), label_file), dimensions=1).astype(np.int64)
        if len(pixels) != len(labels) or labels.max(initial=0) >= len(FASHION_CLASSES):
            raise DataError(f"{root}: {image_file} and {label_file} do not fit together")
        ids = [f"{split}-{i:05d}" for i in range(len(pixels))]
        parts.append(
            BuiltInPart(split, ids, labels, ArrayImages(pixels, f"fashion-mnist {split}"))
        )
    return parts, FASHION_CLASSES


def _find(root: Path, name: str) -> Path:
    folders = (root, root / "FashionMNIST" / "raw")
    places = [folder / f"{name}{end}" for folder, end in product(folders, (".gz", ""))]
    found = next((p for p in places if p.is_file()), None)
    if found is None:
        raise DataError(
            f"{root} has no {name}(.gz); data.root should hold the four files of Fashion-MNIST"
        )
    return found


def read_idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """Read an idx file of uint8, plain or gzipped.

    DataError when it is another format or cut short.
    """
    try:
        content = (
            gzip.decompress(path.read_bytes())
            if path.suffix == ".gz"
            else path.read_bytes()
        )
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} is not a whole gzip file ({error})") from error
    header = 4 + 4 * dimensions
    if len(content) < header or content[:4] != bytes([0, 0, 8, dimensions]):
        raise DataError(f"{path} is not an idx file of {dimensions} dimensions")
    shape = tuple(
        int.from_bytes(content[4 + 4 * i : 8 + 4 * i], "big") for i in range(dimensions)
    )
    size = 1
    for n in shape:
        size *= n
    if len(content) != header + size:
        raise DataError(
            f"{path} has {len(content) - header} values, its header says {size}; it was cut short"
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)
