import numpy as np
import pytest
import torch

from ensembler.inference.engines.choose import at_once
from ensembler.inference.predictor import BATCH, in_batches


def test_a_network_predicts_no_larger_batches_than_it_was_trained_with():
    assert [at_once("default", n) for n in (4, 64, 512)] == [4, 64, BATCH]
    assert at_once("traced", 4) == BATCH  # it fills them up
    seen = []

    def predictor(images):
        seen.append(len(images))
        return images.numpy()

    images = torch.arange(10.0)
    assert np.array_equal(in_batches(predictor, 4)(images), images.numpy())
    assert seen == [4, 4, 2]


def test_batches_are_halved_where_memory_does_not_suffice():
    seen = []

    def predictor(images):
        seen.append(len(images))
        if len(images) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return images.numpy()

    images = torch.arange(10.0)
    assert np.array_equal(in_batches(predictor, 8)(images), images.numpy())
    assert seen == [8, 4, 2, 2, 4, 2, 2, 2]


def test_an_error_of_another_kind_is_raised_at_once():
    def predictor(images):
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes do not fit"):
        in_batches(predictor, 8)(torch.arange(10.0))
