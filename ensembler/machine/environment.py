"""What decides the last bits of a training: versions, processor, threads."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = (
    "ensembler-toolkit",
    "numpy",
    "pandas",
    "scipy",
    "scikit-learn",
    "torch",
    "torchvision",
    "timm",
    "albumentations",
)
_CPU_INFO = Path("/proc/cpuinfo")


def versions() -> dict[str, str]:
    """The versions of Python and of the packages that count, those that are installed."""
    installed = {package: _version(package) for package in PACKAGES}
    found = {package: version for package, version in installed.items() if version}
    return {"python": platform.python_version(), **found}


@cache
def _version(package: str) -> str | None:
    """Looked for once in a process, for every fold keeps the versions it was trained with."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def environment(device: str, threads: int) -> dict[str, Any]:
    """What computes here, as plain values; `device` and `threads` are those that are used."""
    return {
        "device": device,
        "threads": threads,
        "processor": processor(),
        "versions": versions(),
    }


@cache
def processor() -> str:
    """The processor's name, where the system tells it."""
    if _CPU_INFO.is_file():
        for line in _CPU_INFO.read_text(errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def differences(
    then: Mapping[str, Any], now: Mapping[str, Any]
) -> dict[str, tuple[object, object]]:
    """What differs between two environments: by name, then and now; None where it is not said."""
    found: dict[str, tuple[object, object]] = {}
    for key in ("device", "threads", "processor"):
        if then.get(key) != now.get(key):
            found[key] = (then.get(key), now.get(key))
    before, after = then.get("versions") or {}, now.get("versions") or {}
    for package in (*before, *(name for name in after if name not in before)):
        if before.get(package) != after.get(package):
            found[package] = (before.get(package), after.get(package))
    return found
