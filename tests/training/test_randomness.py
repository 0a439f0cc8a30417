import random
import warnings

import numpy as np
import pytest
import torch

from ensembler.progress import RecordedProgress
from ensembler.training.randomness import only_deterministic, own_randomness, seed_all

CPU = torch.device("cpu")


def draws():
    return torch.rand(1).item(), np.random.random(), random.random()  # noqa: NPY002


def test_equal_seeds_give_equal_draws_of_all_three_generators():
    found = []
    for seed in (1, 1, 2):
        with own_randomness(CPU):
            seed_all(seed)
            found.append(draws())
    assert found[0] == found[1]
    assert all(a != b for a, b in zip(found[0], found[2], strict=True))


def test_the_callers_generators_are_put_back_even_after_an_error():
    with own_randomness(CPU):
        seed_all(5)
        expected = draws()
        seed_all(5)
        with pytest.raises(ZeroDivisionError), own_randomness(CPU):
            seed_all(6)
            draws()
            raise ZeroDivisionError
        assert draws() == expected


def test_deterministic_algorithms_are_asked_for_inside_the_block_only():
    with only_deterministic(True):
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.is_deterministic_algorithms_warn_only_enabled()
    assert not torch.are_deterministic_algorithms_enabled()
    with only_deterministic(False):
        assert not torch.are_deterministic_algorithms_enabled()


def test_an_operation_without_a_deterministic_form_is_one_note():
    progress = RecordedProgress()
    with only_deterministic(True, progress):
        for _ in range(2):
            warnings.warn("put_ does not have a deterministic implementation", stacklevel=1)
    (note,) = progress.notes
    assert note.startswith("deterministic: put_ has no deterministic form")


def test_other_warnings_stay_what_they_are():
    with only_deterministic(True), pytest.raises(UserWarning, match="something else"):
        warnings.warn("something else", stacklevel=1)


def test_the_processors_draws_are_those_after_torchs_own_seeding():
    with own_randomness(CPU):
        torch.manual_seed(7)
        expected = torch.rand(3)
        seed_all(7)
        assert torch.equal(torch.rand(3), expected)
