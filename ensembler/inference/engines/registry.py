"""Engines by name: what computes a network's logits.

An engine is a function `(network, sample, amp, device) -> Predictor`. It may change the network it
is given; `sample` is a batch of uint8 pixels as the predictor will get them. Other packages add
theirs through `ensembler.engines`.
"""

from __future__ import annotations

from importlib.util import find_spec

from ensembler.errors import MissingExtraError, UnknownNameError
from ensembler.registry import Registry

ENGINES = Registry(
    "engine",
    "ensembler.engines",
    {
        "eager": "ensembler.inference.engines.eager:prepare",
        "graph": "ensembler.inference.engines.graph:prepare",
        "traced": "ensembler.inference.engines.traced:prepare",
        "compile": "ensembler.inference.engines.compiled:prepare",
        "openvino": "ensembler.inference.engines.openvino:prepare",
        "onnx": "ensembler.inference.engines.onnx:prepare",
    },
)
# What an engine needs besides the extra `train`; the extra that brings it has the engine's name.
NEEDS = {"openvino": ("openvino",), "onnx": ("onnx", "onnxruntime", "onnxscript")}
# The default depends on hardware and recipe alone, so that equal seeds give equal bits; `auto`
# measures once for a run.
DEFAULT, AUTO = "eager", "auto"
_DEFAULTS = {"cuda": "graph"}  # by kind of device, where it is another one


def named_engine(name: str, device: str) -> str:
    """The engine that `name` stands for on a kind of device: cpu, cuda or mps."""
    return _DEFAULTS.get(device, DEFAULT) if name == "default" else name


def check_engine(name: str) -> str:
    """Return the name of an engine, of the default one or of the choice by measurement.

    UnknownNameError otherwise.
    """
    if name not in ("default", AUTO) and name not in ENGINES:
        raise UnknownNameError("engine", name, ["default", AUTO, *ENGINES.names])
    return name


def is_installed(name: str) -> bool:
    """Whether the packages are there that an engine needs."""
    return all(find_spec(package) is not None for package in NEEDS.get(name, ()))


def check_installed(name: str) -> None:
    """Raise MissingExtraError with the extra that an engine needs."""
    if not is_installed(name):
        raise MissingExtraError(f"engine: {name}", name)
