import pytest
import torch

from ensembler.networks.fetching import fetched


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_a_number_is_that_of_the_moment_when_it_was_fetched(device):
    number = torch.ones((), device=device)
    first = fetched(number)
    number += 1
    assert (first(), fetched(number)()) == (1.0, 2.0)
