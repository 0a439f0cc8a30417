import numpy as np
import pytest

from ensembler.data.images import fit_to_input

RNG = np.random.default_rng(0)
PIXELS = np.kron(RNG.integers(0, 256, (3, 4, 3), dtype=np.uint8), np.ones((8, 8, 1), np.uint8))  # 24 x 32


@pytest.mark.parametrize("resize", ["stretch", "fit", "crop"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("image", [PIXELS, PIXELS[..., 0], PIXELS[:1, :1]])
def test_every_image_fits_the_input(resize, channels, image):
    out = fit_to_input(image, 16, channels, resize)
    assert (out.shape, out.dtype) == ((16, 16, channels), np.uint8)


def test_fit_keeps_the_proportions_and_crop_the_centre():
    white = np.full((10, 20, 3), 255, np.uint8)
    assert (fit_to_input(white, 20, 3, "fit")[:, 0, 0] > 0).sum() == 10
    striped = np.zeros((10, 30, 3), np.uint8)
    striped[:, 10:20] = 255
    assert (fit_to_input(striped, 10, 3, "crop") == 255).all()
