"""Depthwise convolutions whose bfloat16 gradient is slow on processors: they learn in float32.

oneDNN has no fast bfloat16 backward pass for depthwise kernels above 3 x 3 or with a stride (torch
2.15: one with stride 2 takes ten times as long as in float32), and half of a mobile network's time
would go there.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def learn_depthwise_in_float32(network: nn.Module) -> None:
    """Let depthwise convolutions that are slow in bfloat16 leave autocast in training.

    For training on a processor; weights, their names and predictions stay what they are.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and _is_slow(module):
            module.__class__ = _in_float32(type(module))


def _is_slow(convolution: nn.Conv2d) -> bool:
    depthwise = convolution.groups == convolution.in_channels > 1
    return depthwise and (max(convolution.kernel_size) > 3 or max(convolution.stride) > 1)


def _in_float32(kind: type[nn.Conv2d]) -> type[nn.Conv2d]:
    class LearnsInFloat32(kind):  # type: ignore[valid-type, misc]
        def forward(self, pixels: Tensor) -> Tensor:
            if not torch.is_grad_enabled():
                out: Tensor = super().forward(pixels)
                return out
            with torch.autocast("cpu", enabled=False):
                exact: Tensor = super().forward(pixels.float())
            return exact

    return LearnsInFloat32
