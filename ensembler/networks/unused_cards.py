"""Cards that are in the machine and that torch cannot use: why, and what helps."""

from __future__ import annotations

import re

import torch

from ensembler.machine.cards import Cards, cards_here, hidden_by

# The oldest driver that runs programs of a CUDA version, by its first number.
_DRIVERS = {11: "450.80", 12: "525.60", 13: "580.65"}


def why_no_card(cards: Cards | None = None) -> str | None:
    """Why torch sees none of the NVIDIA cards that are here, and the fix, in one line.

    None when torch sees a CUDA device, when there is no such card (as far as the system says), or
    when they are hidden on purpose.
    """
    if torch.cuda.is_available() or hidden_by() is not None:
        return None
    cards = cards_here() if cards is None else cards
    if not cards.names:
        return None
    return f"{_counted(cards)} is here, but {_fault(cards)}"


def why_not_asked_for() -> str:
    """What to say to somebody who asked for CUDA where torch sees none."""
    hidden = hidden_by()
    if hidden is not None:
        return f"{hidden} hides every CUDA device; unset it, or name one as in =0"
    found = why_no_card()
    if found is not None:
        return found
    return f"torch {torch.__version__} sees no CUDA device here; `ens doctor` lists what there is"


def _counted(cards: Cards) -> str:
    first, *others = cards.names
    return f"{first} (and {len(others)} more)" if others else first


def _fault(cards: Cards) -> str:
    """What keeps torch from the cards, and the fix."""
    this = f"this torch ({torch.__version__})"
    if torch.version.cuda is None:
        return (
            f"{this} was built without CUDA; install torch and torchvision in a build with CUDA "
            "(the selector on PyTorch's start page gives the command)"
        )
    if cards.driver is None:
        return (
            "no NVIDIA driver is loaded; install one, or start the driver that is installed"
        )
    if not cards.may_open:
        return (
            "this process may not open it; a container is started with --gpus all "
            "(or --nv), a batch job has to ask for a GPU"
        )
    fault = _first_fault()
    too_old = re.search(r"too old \(found version (\d+)\)", fault)
    if too_old is not None:
        return _too_old(cards.driver, int(too_old[1]))
    return (
        f"{this} cannot start CUDA ({fault}); `nvidia-smi` should list the card; after an update "
        "of the driver restart the machine"
    )


def _too_old(driver: str, version: int) -> str:
    """What to say of a driver that knows CUDA up to `version` (12020 means 12.2)."""
    built_for = str(torch.version.cuda)
    known = f"{version // 1000}.{version % 1000 // 10}"
    needed = _DRIVERS.get(int(built_for.partition(".")[0]))
    update = f"update the driver to {needed} or later" if needed else "update the driver"
    return (
        f"its driver {driver} is too old for this torch ({torch.__version__}, CUDA {built_for}); "
        f"{update}, or install a torch built for CUDA {known} or earlier"
    )


def _first_fault() -> str:
    """The first sentence of what torch says when CUDA is started."""
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]  # torch gives it no types
    except (RuntimeError, AssertionError) as error:
        line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        return line.partition(". ")[0]
    return "it lists no device"


def built_for() -> str:
    """Which cards this torch was built for, in words: `sm_75 to sm_120`."""
    named = [name for name in torch.cuda.get_arch_list() if name.startswith(("sm_", "gfx"))]
    if not named:
        return "no card"
    return named[0] if len(named) == 1 else f"{named[0]} to {named[-1]}"
