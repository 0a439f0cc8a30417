"""`ens doctor`: what is installed here, and what would be gained by installing more."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from importlib import import_module, metadata
from importlib.util import find_spec
from typing import Any

from ensembler.cores import available_cores

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
    "onnx": ("the engine onnx", {"onnx": "onnx", "onnxruntime": "onnxruntime", "onnxscript": "onnxscript"}),
    "report": ("plots", {"matplotlib": "matplotlib"}),
}
_CORE = ("numpy", "pandas", "scipy", "scikit-learn", "pydantic", "ruamel.yaml", "safetensors", "typer")


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


def examine() -> Diagnosis:
    """Look at this machine and environment; nothing is downloaded or changed."""
    from ensembler import __version__

    extras = tuple(
        Extra(name, adds, tuple(p for p, module in packages.items() if find_spec(module) is None))
        for name, (adds, packages) in EXTRAS.items()
    )
    names = [*_CORE, *(p for _, packages in EXTRAS.values() for p in packages)]
    devices, problems = _devices()
    return Diagnosis(
        version=__version__,
        python=platform.python_version(),
        processor=platform.processor() or platform.machine(),
        cores=available_cores(),
        devices=devices,
        packages={name: version for name in names if (version := _version(name))},
        extras=extras,
        problems=problems,
    )


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _devices() -> tuple[tuple[str, ...], tuple[str, ...]]:
    if find_spec("torch") is None:
        return ("none for training: torch is not installed",), ()
    import torch

    cuda = [torch.device("cuda", i) for i in range(torch.cuda.device_count())]
    devices = [_described(device) for device in cuda]
    if torch.backends.mps.is_available():
        devices.append("mps")
    devices.append(f"cpu, {torch.get_num_threads()} threads")
    problems = [problem for device in cuda if (problem := _problem(device)) is not None]
    try:
        import_module("torchvision")
    except (ImportError, RuntimeError) as error:
        # torchvision registers operators of its own; built for another torch it fails here and nowhere else.
        problems.append(
            f"torchvision does not load ({error}): torch and torchvision were built for different devices or "
            "versions; install both from the same place"
        )
    return tuple(devices), tuple(problems)


def _described(device: Any) -> str:
    import torch

    from ensembler.networks.devices import autocast_type, capability_text

    properties = torch.cuda.get_device_properties(device)
    precision = str(autocast_type("auto", device)).removeprefix("torch.")
    return (
        f"{device} {properties.name}, capability {capability_text(device)}, {properties.total_memory / 1e9:.1f} GB, "
        f"computes in {precision}"
    )


def _problem(device: Any) -> str | None:
    from ensembler.networks.devices import why_unusable

    reason = why_unusable(device)
    if reason is None:
        return None
    return f"{device} cannot compute with this torch ({reason}); install a torch that was built for it"
