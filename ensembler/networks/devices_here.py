"""The devices of this machine in words, and what keeps torch from computing on them."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any


def devices_here() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The devices, and the problems; torch need not be installed."""
    if find_spec("torch") is None:
        return ("none for training: torch is not installed",), ()
    import torch

    cuda = [torch.device("cuda", i) for i in range(torch.cuda.device_count())]
    devices = [_described(device) for device in cuda]
    if torch.backends.mps.is_available():
        devices.append("mps")
    devices.append(f"cpu, {torch.get_num_threads()} threads")
    from ensembler.networks.unused_cards import why_no_card

    found = [*map(_problem, cuda), why_no_card()]
    problems = [problem for problem in found if problem is not None]
    try:
        import_module("torchvision")
    except (ImportError, RuntimeError) as error:
        # torchvision registers operators of its own; built for another torch it fails here and
        # nowhere else.
        problems.append(
            f"torchvision does not load ({error}): torch and torchvision were built for "
            "different devices or versions; install both from the same place"
        )
    return tuple(devices), tuple(problems)


def _described(device: Any) -> str:
    import torch

    from ensembler.networks.devices import autocast_type, capability_text

    properties = torch.cuda.get_device_properties(device)
    precision = str(autocast_type("auto", device)).removeprefix("torch.")
    return (
        f"{device} {properties.name}, capability {capability_text(device)}, "
        f"{properties.total_memory / 1e9:.1f} GB, computes in {precision}"
    )


def _problem(device: Any) -> str | None:
    from ensembler.networks.devices import why_unusable
    from ensembler.networks.unused_cards import built_for

    reason = why_unusable(device)
    if reason is None:
        return None
    return (
        f"{device} cannot compute with this torch ({reason}), which is built for {built_for()}; "
        "install a torch that was built for it"
    )
