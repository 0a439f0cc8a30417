"""Pixels that survive a JPEG: squares of eight by eight."""

import numpy as np

RNG = np.random.default_rng(0)
PIXELS = np.kron(
    RNG.integers(0, 256, (3, 4, 3), dtype=np.uint8), np.ones((8, 8, 1), np.uint8)
)  # 24 x 32
