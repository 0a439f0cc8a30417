"""What each of several folds, trained at the same time, may use of this machine."""

from __future__ import annotations

from dataclasses import replace

from ensembler.machine.execution import Execution


def shares_of(execution: Execution, n_folds: int) -> list[Execution]:
    """What each process may use to train `n_folds` at once.

    Of several cards each has a process, which trains its share of the folds at once; otherwise
    there is a process for each fold, in turn on each device that is named.
    """
    from ensembler.networks.devices import cards

    devices = execution.devices or cards(execution.device) or (execution.device,)
    # folds that share a card share a process; other devices are given one for each fold
    are_cards = all(name.startswith("cuda:") for name in devices)
    n_processes = min(len(devices), n_folds) if are_cards else n_folds
    workers = _workers(execution, n_folds)
    return [
        replace(
            execution,
            device=devices[i % len(devices)],
            devices=(),
            workers=workers,
            processes=len(range(i, n_folds, n_processes)),
        )
        for i in range(n_processes)
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
