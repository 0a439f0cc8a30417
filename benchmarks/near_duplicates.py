"""How many altered copies of real photographs an audit finds: python benchmarks/near_duplicates.py IMAGES [--n 1000]."""

import argparse
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ensembler.audit.duplicates import find_duplicates
from ensembler.audit.facts import THUMB, ImageFacts, perceptual_hash
from ensembler.data.images import fit_to_input

Image = NDArray[np.uint8]


def compressed(image: Image, quality: int) -> Image:
    """The image after JPEG at `quality`."""
    return cv2.imdecode(
        cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1],
        cv2.IMREAD_COLOR,
    )


def scaled(image: Image, factor: float) -> Image:
    """The image at another size."""
    return cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)


def cropped(image: Image, share: float) -> Image:
    """The image without a border of `share` of its sides."""
    rows, columns = (max(1, round(side * share)) for side in image.shape[:2])
    return image[rows:-rows, columns:-columns]


ALTERED: dict[str, Callable[[Image], Image]] = {
    "JPEG quality 70": lambda i: compressed(i, 70),
    "JPEG quality 40": lambda i: compressed(i, 40),
    "half the size": lambda i: scaled(i, 0.5),
    "half the size, JPEG quality 70": lambda i: compressed(scaled(i, 0.5), 70),
    "10 % brighter": lambda i: cv2.convertScaleAbs(i, alpha=1.1),
    "1 % cut off each side": lambda i: cropped(i, 0.01),
    "5 % cut off each side": lambda i: cropped(i, 0.05),
    "mirrored": lambda i: np.ascontiguousarray(i[:, ::-1]),
}


def facts_of(images: list[Image]) -> ImageFacts:
    """What an audit would note of the images, as far as the search needs it."""
    n = len(images)
    return ImageFacts(
        width=np.array([i.shape[1] for i in images]),
        height=np.array([i.shape[0] for i in images]),
        kind=np.full(n, "JPEG RGB"),
        content=np.array([str(k) for k in range(n)]),
        pixels=np.array([str(k) for k in range(n)]),
        phash=np.array([perceptual_hash(i) for i in images], np.uint64),
        spread=np.array([i.std() for i in images], np.float32),
        thumb=np.stack([fit_to_input(i, THUMB, 3, "stretch") for i in images]),
        fault=np.full(n, ""),
        fault_code=np.full(n, ""),
    )


def main() -> None:
    """Count the copies that are found, by kind of alteration, and pairs found among the photographs themselves."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", type=Path)
    parser.add_argument("--n", type=int, default=1000)
    given = parser.parse_args()
    paths = sorted(given.images.glob("*.jpg"))
    everything = [cv2.imread(str(path)) for path in paths]
    found = find_duplicates(facts_of(everything)).near
    print(f"{len(paths)} photographs: {len(found)} sets that look alike among them")
    for same in found:
        print("  " + ", ".join(paths[i].name for i in same))
    chosen = [
        everything[i] for i in np.random.default_rng(0).permutation(len(paths))[: given.n]
    ]
    for name, alter in ALTERED.items():
        near = find_duplicates(
            facts_of([*chosen, *(alter(image) for image in chosen)])
        ).near
        hits = sum(
            any(i + len(chosen) in same for same in near for i in same if i < len(chosen))
            for same in near
        )
        print(f"{name}: {hits / len(chosen):.1%} of {len(chosen)} copies are found")


if __name__ == "__main__":
    main()
