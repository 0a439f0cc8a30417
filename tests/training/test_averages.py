import numpy as np
import pytest
import torch

from ensembler.training.averages import WeightAverages, renew_batch_norms
from ensembler.training.spec import MemberSpec


def spec(**options):
    return MemberSpec(backbone="tiny", **options)


@pytest.fixture
def network():
    return torch.nn.Linear(2, 1)


def epochs(kept, network, numbers):
    """Train as it were: after each epoch every weight is that epoch's number."""
    for epoch in numbers:
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.fill_(epoch)
        kept.after_epoch(epoch, network)


def made(kept, network):
    found = kept.networks(network, np.zeros((2, 1, 1, 2), np.uint8), np.arange(2), 2)
    return {name: next(one.parameters()).mean().item() for name, one in found.items()}


def test_an_average_is_the_mean_of_the_epochs_it_names(network):
    kept = WeightAverages(spec(epochs=8, also=["last_3"]), ["last_3"], network)
    epochs(kept, network, range(1, 9))
    assert made(kept, network) == {"last_3": pytest.approx(7)}


def test_a_snapshot_is_the_network_at_the_end_of_its_cycle(network):
    kept = WeightAverages(
        spec(epochs=6, snapshots="cyclic", cycles=3), ["c1", "c3"], network
    )
    epochs(kept, network, range(1, 7))
    assert made(kept, network) == {"c1": 2, "c3": 6}


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"also": ["last_4", "swa"]}, ["last_4", "swa"]),
        ({"snapshots": "cyclic", "cycles": 2}, ["c1"]),
    ],
)
def test_what_was_kept_is_taken_up_by_a_resumed_training(network, options, wanted):
    whole, begun, resumed = (
        WeightAverages(spec(epochs=6, **options), wanted, network) for _ in range(3)
    )
    epochs(whole, network, range(1, 7))
    epochs(begun, network, range(1, 5))
    resumed.load(begun.state())
    epochs(resumed, network, range(5, 7))
    assert made(resumed, network) == made(whole, network)
    assert set(made(whole, network)) == set(wanted)


def test_statistics_of_batch_norms_are_those_of_the_train_rows():
    pixels = np.random.default_rng(0).integers(0, 255, (20, 4, 4, 3), dtype=np.uint8)

    class Floats(torch.nn.BatchNorm2d):
        def forward(self, images):
            return super().forward(images.float())

    norm = Floats(3)
    renew_batch_norms(norm, pixels, np.arange(10), 5)
    assert np.allclose(norm.running_mean, pixels[:10].mean(axis=(0, 1, 2)), rtol=1e-4)
