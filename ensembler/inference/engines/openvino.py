"""OpenVINO: the fastest on x86 processors; computes on the CPU whatever the device."""

from __future__ import annotations

import sys
import warnings

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ensembler.errors import RequestError
from ensembler.inference.engines.registry import check_installed
from ensembler.inference.predictor import Predictor
from ensembler.networks.devices import autocast_type, pick_device


def prepare(network: nn.Module, sample: Tensor, amp: str, device: str) -> Predictor:
    """The network converted, with bfloat16 where `amp` allows and the processor has it."""
    check_installed("openvino")
    if pick_device(device).type != "cpu":
        raise RequestError(
            f"engine openvino computes on the CPU, not on {device!r}; add --device cpu"
        )
    # Its converter reports every use to its makers where it finds this package; nothing is sent
    # from here.
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    import openvino

    with warnings.catch_warnings(), torch.inference_mode():
        # of the tracer, about shapes that are constant here
        warnings.simplefilter("ignore")
        model = openvino.convert_model(network.eval().cpu(), example_input=sample[:2])
    model.reshape([-1, *sample.shape[1:]])
    precision = (
        "bf16" if autocast_type(amp, torch.device("cpu")) == torch.bfloat16 else "f32"
    )
    hints = {
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
    }
    compiled = openvino.Core().compile_model(model, "CPU", hints)

    def predict(images: Tensor) -> NDArray[np.float32]:
        return np.asarray(compiled(np.ascontiguousarray(images.numpy()))[0], np.float32)

    return predict
