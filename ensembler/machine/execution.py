"""How a job uses this machine, as one value: made once, by the command line or a notebook."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Execution:
    """Where and how networks are trained and predict.

    `device` is auto, cpu, cuda, cuda:1 or mps; `workers` are the processes that augment images
    (None: none on a CPU, up to 8 for a GPU); `processes` says how many folds are trained at the
    same time; `engine` is what predicts (None: the recipe's).
    """

    device: str = "auto"
    workers: int | None = None
    processes: int = 1
    engine: str | None = None


DEFAULT_EXECUTION = Execution()
