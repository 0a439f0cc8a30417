"""Images that are drawn, and never trained on.

What an ensemble gives for them tells whether it is the one that was packed, here as there.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

N_IMAGES = 12
HEIGHT, WIDTH = 96, 128


def draw_reference() -> NDArray[np.uint8]:
    """The images `[images, height, width, 3]`, the same ones everywhere: slopes, discs and noise.

    They are made with whole numbers alone, so that no library rounds them otherwise.
    """
    rng = np.random.default_rng(20)
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    images = np.empty((N_IMAGES, HEIGHT, WIDTH, 3), np.int64)
    for image in images:
        first, second = rng.integers(0, 256, (2, 3))
        along = (rows + columns)[:, :, None]
        image[:] = first + (second - first) * along // (HEIGHT + WIDTH)
        for _ in range(int(rng.integers(1, 5))):
            _add_disc(image, rows, columns, rng)
        image += rng.integers(-20, 21, image.shape)
    return np.clip(images, 0, 255).astype(np.uint8)


def _add_disc(
    image: NDArray[np.int64],
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
    rng: np.random.Generator,
) -> None:
    top, left = int(rng.integers(0, HEIGHT)), int(rng.integers(0, WIDTH))
    radius = int(rng.integers(6, HEIGHT // 2))
    inside = (rows - top) ** 2 + (columns - left) ** 2 <= radius**2
    image[inside] = rng.integers(0, 256, 3)
