"""What each of several folds, trained at the same time, may use of this machine."""

from __future__ import annotations

from dataclasses import replace

from ensembler.machine.execution import Execution


def shares_of(execution: Execution, n_folds: int) -> list[Execution]:
    """What each process may use to train `n_folds` at once.

    Of several cards each has a process, which trains its share of the folds at once; otherwise
    there is a process for each fold.
    """
    from ensembler.networks.devices import cards

    devices = cards(execution.device)[:n_folds] or (execution.device,) * n_folds
    workers = _workers(execution, n_folds)
    at_once = [len(range(i, n_folds, len(devices))) for i in range(len(devices))]
    return [
        replace(execution, device=device, workers=workers, processes=n)
        for device, n in zip(devices, at_once, strict=True)
    ]


def share_of_one(execution: Execution, n_folds: int) -> Execution:
    """What each of `n_folds` may use that one process trains at once."""
    return replace(execution, workers=_workers(execution, n_folds), processes=1)


def _workers(execution: Execution, n_folds: int) -> int:
    given = execution.workers
    return share_of_loaders(n_folds, execution.device) if given is None else given


def share_of_loaders(n: int, device: str) -> int:
    """How many loader processes each of `n` folds takes: together as many as one alone."""
    from ensembler.networks.devices import loader_processes, pick_device

    alone = loader_processes(pick_device(device))
    return max(1, alone // n) if alone else 0
