import numpy as np
import pytest
import torch

from ensembler.data.augment import sample_seed
from ensembler.data.augmenting import seeds_of
from ensembler.training.batches import BatchSource, epoch_batches


@pytest.mark.parametrize(
    ("rows", "size", "sizes"),
    [(10, 4, [4, 4, 2]), (9, 4, [4, 5]), (9, 1, [1] * 9), (1, 4, [1]), (3, 8, [3])],
)
def test_every_row_comes_once_and_no_batch_of_one_ends_an_epoch(rows, size, sizes):
    batches = epoch_batches(np.arange(rows), size, np.random.default_rng(0))
    assert [len(batch) for batch in batches] == sizes
    assert sorted(np.concatenate(batches)) == list(range(rows))


def source(batches, augment=None, key=(1, 2, 3)):
    pixels = np.arange(6 * 2 * 2 * 3, dtype=np.uint8).reshape(6, 2, 2, 3)
    return BatchSource(
        pixels, np.arange(6) % 2, [np.array(b) for b in batches], augment, key
    )


def test_a_batch_holds_its_images_with_their_channels_first():
    images = source([[0, 1], [5, 2]]).images(1)
    assert images.shape == (2, 3, 2, 2)
    assert torch.equal(images[0].permute(1, 2, 0), torch.arange(60, 72).reshape(2, 2, 3))


def test_a_seed_and_a_key_depend_on_row_and_how_often_it_was_drawn_before():
    found = source([[0, 1], [1, 0]])
    seeds = [
        seed
        for rows, again in zip(found.batches, found.drawn_before, strict=True)
        for seed in seeds_of(found.key, rows, again)
    ]
    assert seeds[:2] == [sample_seed(1, 2, 3, 0), sample_seed(1, 2, 3, 1)]
    assert seeds[2:] == [sample_seed(1, 2, 3, 1, 1), sample_seed(1, 2, 3, 0, 1)]
    keys = [*found.keys([0]), *found.keys([1])]
    assert len(set(keys)) == 4
    assert found.keys([0, 1]).tolist() == keys
    assert keys[0] == source([[2, 3], [0, 4]]).keys([1])[0]
    assert keys[0] != source([[0, 1]], key=(1, 2, 4)).keys([0])[0]


def test_an_image_is_augmented_with_its_own_seed():
    seen = []
    found = source([[0, 1]], augment=lambda image, seed: seen.append(seed) or 255 - image)
    images = found.images(0)
    assert seen == [sample_seed(1, 2, 3, 0), sample_seed(1, 2, 3, 1)]
    assert images[0, 0, 0, 0] == 255
