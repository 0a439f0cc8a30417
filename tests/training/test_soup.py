import pytest
import torch

from ensembler.networks.build import Normalised
from ensembler.training.soup import average_weights


def network(value):
    layers = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 1), torch.nn.BatchNorm2d(2))
    with torch.no_grad():
        for parameter in layers.parameters():
            parameter.fill_(value)
    layers[1].running_mean.fill_(value)
    layers[1].num_batches_tracked.fill_(int(10 * value))
    return Normalised(layers, (0.5,) * 3, (0.25,) * 3)


def test_every_weight_and_statistic_is_the_mean():
    soup = average_weights([network(1.0), network(2.0), network(6.0)])
    for value in soup.parameters():
        assert torch.equal(value, torch.full_like(value, 3.0))
    assert soup.network[1].running_mean.tolist() == [3.0, 3.0]


def test_counters_are_the_firsts_and_the_ingredients_stay_as_they_are():
    first, second = network(1.0), network(2.0)
    soup = average_weights([first, second])
    assert soup.network[1].num_batches_tracked == 10
    assert next(first.parameters()).mean() == 1
    assert next(second.parameters()).mean() == 2


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_weights_keep_their_type(dtype):
    soup = average_weights([network(1.0).to(dtype), network(2.0).to(dtype)])
    assert {value.dtype for value in soup.parameters()} == {dtype}
