"""Engines by name: what computes a network's logits.

An engine is a function `(network, sample, amp, device) -> Predictor`. It may change the network it is given; `sample`
is a batch of uint8 pixels as the predictor will get them. Other packages add theirs through `ensembler.engines`.
"""

from __future__ import annotations

from ensembler.errors import UnknownNameError
from ensembler.registry import Registry

ENGINES = Registry(
    "engine",
    "ensembler.engines",
    {
        "eager": "ensembler.inference.engines.eager:prepare",
        "compile": "ensembler.inference.engines.compiled:prepare",
        "openvino": "ensembler.inference.engines.openvino:prepare",
        "onnx": "ensembler.inference.engines.onnx:prepare",
    },
)
# The default depends on hardware and recipe alone, so that equal seeds give equal bits; `auto` measures once for a run.
DEFAULT, AUTO = "eager", "auto"


def check_engine(name: str) -> str:
    """Return the name of an engine, of the default one or of the choice by measurement; UnknownNameError otherwise."""
    if name not in ("default", AUTO) and name not in ENGINES:
        raise UnknownNameError("engine", name, ["default", AUTO, *ENGINES.names])
    return name
