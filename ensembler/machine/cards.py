"""NVIDIA cards as the operating system sees them, whatever torch can do with them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

KERNEL = Path("/proc/driver/nvidia")
PCI = Path("/sys/bus/pci/devices")
CONTROL = Path("/dev/nvidiactl")
WSL = Path("/dev/dxg")  # how Windows lends its cards to Linux
# of a PCI device: the vendor, and what its class begins with
_NVIDIA, _DISPLAY = "0x10de", "0x03"
_PATIENCE = 10.0  # seconds for nvidia-smi; a card that hangs answers never


@dataclass(frozen=True)
class Cards:
    """The cards by name, the version of their driver, and whether this process may open them.

    `driver` is None where none is loaded.
    """

    names: tuple[str, ...] = ()
    driver: str | None = None
    may_open: bool = True


def cards_here() -> Cards:
    """The NVIDIA cards of this machine, found without torch; on most systems by reading files."""
    may_open = CONTROL.exists() or WSL.exists()
    names = tuple(_model(path) for path in sorted(KERNEL.glob("gpus/*/information")))
    if names:
        return Cards(names, _driver_of_kernel(), may_open)
    names, driver = _asked_of_nvidia_smi()
    if names:
        return Cards(names, driver, may_open)
    return Cards(tuple(_unnamed_on_bus()), None, may_open)


def hidden_by() -> str | None:
    """The variable that hides all cards from this process, as `NAME='value'`; None without one."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is None or given.strip() not in ("", "-1", "none", "NoDevFiles"):
        return None
    return f"CUDA_VISIBLE_DEVICES={given!r}"


def _model(path: Path) -> str:
    found = re.search(r"^Model:\s*(.+?)\s*$", _text_of(path), re.MULTILINE)
    return found[1] if found else "NVIDIA card"


def _driver_of_kernel() -> str | None:
    found = re.search(r"Kernel Module.*?\s(\d+\.\d[\d.]*)", _text_of(KERNEL / "version"))
    return found[1] if found else None


def _asked_of_nvidia_smi() -> tuple[tuple[str, ...], str | None]:
    """The names of cards and the driver's version, where the driver's own tool answers."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return (), None
    command = [tool, "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_PATIENCE, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return (), None
    rows = [line.rpartition(",") for line in done.stdout.splitlines() if "," in line]
    names = tuple(name.strip() for name, _, _ in rows)
    return names, rows[0][2].strip() if rows else None


def _unnamed_on_bus() -> list[str]:
    """One text for each card that is plugged in, driver or not."""
    found = []
    for device in sorted(PCI.glob("*")):
        is_display = _text_of(device / "class").startswith(_DISPLAY)
        if is_display and _text_of(device / "vendor").strip() == _NVIDIA:
            found.append(f"NVIDIA card at PCI {device.name}")
    return found


def _text_of(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
