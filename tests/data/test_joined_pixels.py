import numpy as np

from ensembler.data.joined_pixels import JoinedPixels, ViewedPixels

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 3)).astype(np.uint8)


def flip(batch):
    return batch[:, :, ::-1]


def test_joined_images_are_those_of_the_parts():
    joined = JoinedPixels((PIXELS[:2], PIXELS[2:]))
    assert joined.shape == PIXELS.shape
    rows = np.array([4, 0, 2, 2, 1])
    assert np.array_equal(joined[rows], PIXELS[rows])
    assert np.array_equal(joined[3], PIXELS[3])
    assert np.array_equal(joined[1:4], PIXELS[1:4])


def test_views_follow_the_images_as_they_are():
    viewed = ViewedPixels(PIXELS, [flip, flip])
    assert viewed.shape == (15, 4, 4, 3)
    rows = np.array([1, 6, 14, 0])
    wanted = np.stack([PIXELS[1], PIXELS[1][:, ::-1], PIXELS[4][:, ::-1], PIXELS[0]])
    assert np.array_equal(viewed[rows], wanted)
    assert np.array_equal(viewed[7], PIXELS[2][:, ::-1])
