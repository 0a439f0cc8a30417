"""Small networks and pixels on which engines are tried."""

import numpy as np
import torch
from torch import nn

from ensembler.inference.engines.choose import ready
from ensembler.logits import softmax
from ensembler.networks.build import Normalised, build_network
from ensembler.networks.spec import NetworkSpec
from ensembler.progress import RecordedProgress

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)


def network(backbone="resnet10t"):
    torch.manual_seed(0)
    built = build_network(NetworkSpec(backbone=backbone), classes=5, size=32, channels=3)
    with torch.no_grad():
        for module in built.modules():
            if isinstance(
                module, nn.BatchNorm2d
            ):  # as after some training: nothing is zero or one any more
                module.running_mean.normal_(0, 0.2)
                module.running_var.uniform_(0.5, 2)
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0, 0.2)
    return built.eval()


def get_ready(engine, load=network, amp="off", notes=None):
    progress = RecordedProgress()
    progress.notes = [] if notes is None else notes
    return ready(
        engine, load, PIXELS, amp=amp, device="cpu", name="cnn fold 0", progress=progress
    )


def gap(a, b):
    return np.abs(softmax(a) - softmax(b)).max()


def small():
    torch.manual_seed(0)
    layers = [
        nn.Conv2d(3, 8, 3, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    ]
    layers[1].running_mean.normal_(0, 0.2)
    return Normalised(
        nn.Sequential(*layers, nn.Linear(8, 5)), (0.5,) * 3, (0.25,) * 3
    ).eval()
