import cv2
import numpy as np
import pytest

from ensembler.data.images import fit_to_input

RNG = np.random.default_rng(0)
PIXELS = np.kron(
    RNG.integers(0, 256, (3, 4, 3), dtype=np.uint8), np.ones((8, 8, 1), np.uint8)
)  # 24 x 32


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


@pytest.mark.parametrize("size", [200, 224])
def test_a_side_that_shrinks_averages_areas_while_the_other_grows(size):
    column = np.random.default_rng(0).normal(128, 50, 1000).clip(0, 255)
    # noise along the long side alone
    tall = np.repeat(column[:, None], 64, axis=1).astype(np.uint8)
    averaged = area_weights(1000, size) @ np.floor(column)
    assert averaged.std() < 0.6 * column.std()
    for image in (tall, tall.T):
        out = fit_to_input(image, size, 1, "stretch")[..., 0]
        out = out.T if image is not tall else out
        assert np.abs(out - averaged[:, None]).max() <= 1


def test_where_both_sides_shrink_or_grow_pixels_are_as_they_were():
    noise = np.random.default_rng(0).integers(0, 256, (100, 140, 3), dtype=np.uint8)
    for size, how in ((64, cv2.INTER_AREA), (200, cv2.INTER_LINEAR)):
        expected = cv2.resize(noise, (size, size), interpolation=how)
        np.testing.assert_array_equal(fit_to_input(noise, size, 3, "stretch"), expected)


def area_weights(n_in, n_out):
    """How much of each input cell lies in each output cell, rows summing to 1."""
    edges = np.linspace(0, n_in, n_out + 1)
    low, high = edges[:-1, None], edges[1:, None]
    cells = np.arange(n_in)
    overlap = np.clip(np.minimum(high, cells + 1) - np.maximum(low, cells), 0, None)
    return overlap / overlap.sum(axis=1, keepdims=True)
