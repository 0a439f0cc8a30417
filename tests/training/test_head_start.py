import numpy as np
import pytest
import torch

from ensembler.errors import RequestError
from ensembler.networks.build import build_network
from ensembler.networks.spec import NetworkSpec
from ensembler.targets.kinds import MULTI_LABEL, SINGLE_LABEL
from ensembler.training.fold_data import FoldData
from ensembler.training.head_start import linear_head, start_head
from ensembler.training.spec import MemberSpec

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return build_network(
        NetworkSpec(backbone="test_resnet"), classes=4, size=32, channels=3
    )


def images(n=48):
    """Images that are brighter from class to class."""
    targets = np.arange(n) % 3
    pixels = np.random.default_rng(0).integers(0, 60, (n, 32, 32, 3), dtype=np.uint8)
    return pixels + (targets * 60).astype(np.uint8)[:, None, None, None], targets


def logits_of(network, pixels):
    with torch.inference_mode():
        return network.eval()(torch.from_numpy(pixels).permute(0, 3, 1, 2)).numpy()


def test_a_head_that_was_probed_knows_the_train_rows(network):
    pixels, targets = images()
    data = FoldData(pixels, targets, np.arange(40), np.arange(40, 48), 4)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    unseen = linear_head(network).weight[3].clone()
    start_head(network, data, 16, 0, CPU)
    logits = logits_of(network, pixels)[:, :3]
    assert (logits.argmax(axis=1) == targets).mean() > 0.8
    changed = {n for n, v in network.state_dict().items() if not torch.equal(v, before[n])}
    assert changed == {"network.fc.weight", "network.fc.bias"}
    # a class without train rows keeps the head it had
    assert torch.equal(linear_head(network).weight[3], unseen)


def test_each_task_has_its_rows_of_the_head(network):
    pixels, targets = images()
    is_bright = (targets == 2).astype(np.int64)
    both = np.stack([targets % 2, is_bright, 1 - is_bright], axis=1)
    kinds = (SINGLE_LABEL, MULTI_LABEL)
    rows = np.arange(48)
    data = FoldData(pixels, both, rows, rows[:0], 4, tasks=(2, 2), kinds=kinds)
    start_head(network, data, 16, 0, CPU)
    logits = logits_of(network, pixels)
    assert ((logits[:, 2] > 0) == (is_bright == 1)).mean() > 0.8
    assert ((logits[:, 3] > 0) == (is_bright == 0)).mean() > 0.8


def test_a_network_without_a_linear_head_is_refused(network):
    class Other(torch.nn.Module):
        def forward(self, x):
            return x

    network.network, kept = Other(), network.network
    try:
        with pytest.raises(RequestError, match="one linear layer, and Other"):
            linear_head(network)
    finally:
        network.network = kept


def test_members_of_earlier_versions_stay_what_they_are():
    assert "init_head" not in MemberSpec(backbone="test_resnet").decisive_options
    probed = MemberSpec(backbone="test_resnet", init_head="probe")
    assert probed.decisive_options["init_head"] == "probe"
