import numpy as np
import pytest
import torch

from ensembler.inference.predictor import as_images, in_batches, predict_batch


def sums(images):
    return images.float().sum(dim=(2, 3)).numpy()


@pytest.fixture
def batch():
    return np.random.default_rng(0).integers(0, 255, (10, 4, 5, 3), dtype=np.uint8)


def test_images_have_their_channels_first_and_lie_as_they_did(batch):
    images = as_images(batch, "cpu")
    assert images.shape == (10, 3, 4, 5)
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert np.array_equal(images.permute(0, 2, 3, 1).numpy(), batch)


def test_a_batch_is_given_in_parts_of_at_most_so_many_and_comes_back_whole(batch):
    seen = []

    def predictor(images):
        seen.append(len(images))
        return sums(images)

    images = as_images(batch, "cpu")
    assert np.array_equal(in_batches(predictor, 4)(images), sums(images))
    assert seen == [4, 4, 2]


def test_where_memory_is_short_parts_are_halved(batch):
    def predictor(images):
        if len(images) > 3:
            raise torch.OutOfMemoryError
        return sums(images)

    images = as_images(batch, "cpu")
    assert np.array_equal(in_batches(predictor, 8)(images), sums(images))


def test_every_predictor_sees_the_same_batch(batch):
    first, second = predict_batch([sums, lambda images: -sums(images)], batch, "cpu")
    assert np.array_equal(first, -second)
