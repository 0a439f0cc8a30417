"""ONNX Runtime, in float32 on the CPU: for machines on which neither torch nor OpenVINO is fast."""

from __future__ import annotations

import logging
import warnings

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ensembler.errors import RequestError
from ensembler.inference.engines.registry import check_installed
from ensembler.inference.predictor import Predictor
from ensembler.networks.devices import pick_device


def prepare(network: nn.Module, sample: Tensor, amp: str, device: str) -> Predictor:  # noqa: ARG001
    """The network exported to ONNX.

    `amp` has no say, for ONNX Runtime computes in float32 on processors.
    """
    check_installed("onnx")
    if pick_device(device).type != "cpu":
        raise RequestError(
            f"engine onnx computes on the CPU, not on {device!r}; add --device cpu"
        )
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        _export(network.eval().cpu(), sample), options, ["CPUExecutionProvider"]
    )
    name = session.get_inputs()[0].name

    def predict(images: Tensor) -> NDArray[np.float32]:
        return np.asarray(
            session.run(None, {name: np.ascontiguousarray(images.numpy())})[0], np.float32
        )

    return predict


def _export(network: nn.Module, sample: Tensor) -> bytes:
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter, about its own parts
        program = torch.onnx.export(
            network,
            (sample[:2].contiguous(),),
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("images", min=1)},),
            verbose=False,
        )
    assert program is not None
    content: bytes = program.model_proto.SerializeToString()
    return content
