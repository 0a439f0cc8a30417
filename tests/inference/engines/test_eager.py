import copy

import numpy as np
import pytest
import torch
from engine_trials import PIXELS, gap, get_ready, network
from torch import nn

from ensembler.inference.engines import eager
from ensembler.inference.engines.choose import TOLERANCE
from ensembler.inference.predictor import as_images
from ensembler.networks.build import Normalised


@pytest.mark.parametrize(
    "backbone",
    ["resnet10t", "mobilenetv3_small_050", "convnext_atto", "vit_tiny_patch16_224"],
)
def test_folding_batch_norms_changes_nothing_but_rounding(backbone):
    built = network(backbone)
    images = as_images(PIXELS, "cpu")
    before = eager.plain(copy.deepcopy(built), "cpu")(images)
    folded = eager.fold_batch_norms(built)
    assert np.allclose(eager.plain(folded, "cpu")(images), before, atol=1e-4)
    left = sum(type(m) is nn.BatchNorm2d for m in folded.modules())
    assert left == 0 or backbone != "resnet10t"


class Odd(nn.Module):
    """Calls a convolution twice, and looks at its weights: nothing here may be folded."""

    def __init__(self):
        super().__init__()
        self.shared, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
        self.seen, self.other = nn.Conv2d(3, 5, 1), nn.BatchNorm2d(5)
        self.other.running_mean.fill_(0.5)
        self.norm.running_mean.fill_(0.5)

    def forward(self, pixels):
        x = self.shared(self.norm(self.shared(pixels.float() / 255)))
        return self.other(self.seen(x)).mean((2, 3)) + self.seen.weight.sum()


def test_what_is_used_twice_or_looked_at_is_not_folded():
    odd = Odd().eval()
    images = as_images(PIXELS, "cpu")
    before = eager.plain(copy.deepcopy(odd), "cpu")(images)
    assert np.allclose(
        eager.plain(eager.fold_batch_norms(odd), "cpu")(images), before, atol=1e-5
    )
    assert isinstance(odd.norm, nn.BatchNorm2d)
    assert isinstance(odd.other, nn.BatchNorm2d)


class DataDependent(nn.Module):
    """Cannot be traced, and is in float32 whatever its weights are in."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(3, 5)

    def forward(self, x):
        mean = x.float().mean((2, 3))
        return self.linear(mean if mean.sum() > 0 else -mean)


def load_own():
    return Normalised(DataDependent(), (0.5,) * 3, (0.25,) * 3).eval()


def test_a_network_of_ones_own_that_takes_no_16_bit_weights_is_computed_under_autocast():
    notes = []
    predictor = get_ready("eager", load_own, "bf16", notes)
    images = as_images(PIXELS, "cpu")
    assert 0 < gap(predictor(images), eager.plain(load_own(), "cpu")(images)) < TOLERANCE
    assert notes == []
