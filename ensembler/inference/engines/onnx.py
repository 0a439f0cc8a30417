"""ONNX Runtime, in float32 on the CPU: for machines on which neither torch nor OpenVINO is fast."""

from __future__ import annotations

import logging
import warnings
from importlib.util import find_spec

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ensembler.cores import available_cores
from ensembler.errors import MissingExtraError, RequestError
from ensembler.inference.predict import Predictor
from ensembler.networks.devices import pick_device


def prepare(network: nn.Module, sample: Tensor, amp: str, device: str) -> Predictor:  # noqa: ARG001
    """The network exported to ONNX; `amp` has no say, for ONNX Runtime computes in float32 on processors."""
    if any(find_spec(package) is None for package in ("onnx", "onnxruntime", "onnxscript")):
        raise MissingExtraError("engine: onnx", "onnx")
    if pick_device(device).type != "cpu":
        raise RequestError(f"engine onnx computes on the CPU, not on {device!r}; add --device cpu")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = available_cores()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(_export(network.eval().cpu(), sample), options, ["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def predict(images: Tensor) -> NDArray[np.float32]:
        return np.asarray(session.run(None, {name: np.ascontiguousarray(images.numpy())})[0], np.float32)

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
