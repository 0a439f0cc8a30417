"""How a job uses this machine, as one value: made once, by the command line or a notebook."""

from __future__ import annotations

from dataclasses import dataclass

from ensembler.errors import RequestError


@dataclass(frozen=True)
class Execution:
    """Where and how networks are trained and predict.

    `device` is auto, cpu, cuda, cuda:1 or mps; `workers` are the processes that augment images
    (None: none on a CPU, up to 8 for a GPU); `processes` says how many folds are trained at the
    same time; `engine` is what predicts (None: the recipe's). Folds are spread over `devices`,
    where several are named; whatever else there is to do, `device` does.
    """

    device: str = "auto"
    workers: int | None = None
    processes: int = 1
    engine: str | None = None
    devices: tuple[str, ...] = ()

    @classmethod
    def on(cls, device: str, workers: int | None = None, processes: int = 1) -> Execution:
        """An execution on one device, or on those in "cuda:0,cuda:1", each with a process at least.

        Raises RequestError for a list that is none.
        """
        if "," not in device:
            return cls(device, workers, processes)
        devices = tuple(part.strip() for part in device.split(","))
        vague = [name for name in devices if name in ("", "auto", "cuda")]
        cards = [name for name in devices if name != "cpu"]
        if vague or len(set(cards)) != len(cards):
            raise RequestError(
                f"--device {device!r}: expected each device once, such as cuda:0,cuda:1"
            )
        return cls(devices[0], workers, max(processes, len(devices)), devices=devices)


DEFAULT_EXECUTION = Execution()
