"""`ens doctor`: what is installed here, and what would be gained by installing more."""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from itertools import chain
from typing import Any

from ensembler.machine.cores import available_cores

EXTRAS = {
    "train": (
        "training and predicting",
        {
            "torch": "torch",
            "torchvision": "torchvision",
            "timm": "timm",
            "torchensemble": "torchensemble",
            "albumentations": "albumentations",
            "opencv-python-headless": "cv2",
            "pillow": "PIL",
        },
    ),
    "parquet": ("Parquet tables", {"pyarrow": "pyarrow"}),
    "openvino": ("the engine openvino", {"openvino": "openvino"}),
    "onnx": (
        "the engine onnx",
        {"onnx": "onnx", "onnxruntime": "onnxruntime", "onnxscript": "onnxscript"},
    ),
    "ray": ("folds on a Ray cluster", {"ray": "ray"}),
}
_CORE = (
    "numpy",
    "pandas",
    "scipy",
    "scikit-learn",
    "pydantic",
    "ruamel.yaml",
    "safetensors",
    "typer",
)


@dataclass(frozen=True)
class Extra:
    """An extra of the package: what it adds, and which of its packages are missing."""

    name: str
    adds: str
    missing: tuple[str, ...]


@dataclass(frozen=True)
class Diagnosis:
    """What `ens doctor` found."""

    version: str
    python: str
    processor: str
    cores: int
    devices: tuple[str, ...]
    packages: dict[str, str]
    extras: tuple[Extra, ...]
    problems: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """As the object that `ens doctor --json` prints."""
        return {**self.__dict__, "extras": [extra.__dict__ for extra in self.extras]}


def examine(
    look_at_devices: Callable[[], tuple[Sequence[str], Sequence[str]]],
) -> Diagnosis:
    """Look at this machine and environment; nothing is downloaded or changed.

    `look_at_devices` describes the devices and says what is wrong with them (see
    `networks.devices_here`): it knows torch, this room does not.
    """
    extras = tuple(
        Extra(
            name,
            adds,
            tuple(p for p, module in packages.items() if find_spec(module) is None),
        )
        for name, (adds, packages) in EXTRAS.items()
    )
    names = [*_CORE, *chain.from_iterable(packages for _, packages in EXTRAS.values())]
    devices, problems = look_at_devices()
    return Diagnosis(
        version=metadata.version("ensembler-toolkit"),
        python=platform.python_version(),
        processor=platform.processor() or platform.machine(),
        cores=available_cores(),
        devices=tuple(devices),
        packages={name: version for name in names if (version := _version(name))},
        extras=extras,
        problems=tuple(problems),
    )


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
