import copy

import pytest
import torch
from torch import nn

from ensembler.networks.depthwise import learn_depthwise_in_float32
from ensembler.networks.devices import place_for_training


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=8),  # depthwise with a stride
        nn.Conv2d(8, 8, 5, padding=2, groups=8),  # depthwise and large
        nn.Conv2d(8, 8, 3, padding=1, groups=8),  # fast in bfloat16
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 2),
    )


def seen_types(net, pixels):
    seen = []
    hooks = [
        m.register_forward_hook(lambda _m, _i, out: seen.append(out.dtype)) for m in net[:4]
    ]
    with torch.autocast("cpu", torch.bfloat16):
        net(pixels)
    for hook in hooks:
        hook.remove()
    return seen


def test_only_slow_depthwise_convolutions_leave_bfloat16_and_only_to_learn():
    net, pixels, half = network(), torch.rand(2, 3, 16, 16), torch.bfloat16
    learn_depthwise_in_float32(net)
    assert seen_types(net, pixels) == [half, torch.float32, torch.float32, half]
    with torch.inference_mode():
        assert seen_types(net, pixels) == [half] * 4


def test_weights_names_and_copies_stay_what_they_are():
    net, pixels = network(), torch.rand(2, 3, 16, 16)
    before, plain = net(pixels), copy.deepcopy(net.state_dict())
    learn_depthwise_in_float32(net)
    assert net.state_dict().keys() == plain.keys()
    torch.testing.assert_close(net(pixels), before)
    copied = copy.deepcopy(net)
    with torch.no_grad():
        copied[1].weight.zero_()
    assert net[1].weight.abs().sum() > 0
    assert isinstance(copied[1], nn.Conv2d)


@pytest.mark.parametrize(("amp", "exact"), [("bf16", True), ("off", False)])
def test_networks_are_placed_for_training(amp, exact):
    net = place_for_training(network(), amp, torch.device("cpu"))
    assert (type(net[1]) is not nn.Conv2d) == exact
    assert type(net[0]) is nn.Conv2d
    assert net[0].weight.is_contiguous(memory_format=torch.channels_last)
