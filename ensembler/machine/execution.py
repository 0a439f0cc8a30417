"""How a job uses this machine, as one value: made once, by the command line or a notebook."""

from __future__ import annotations

from dataclasses import dataclass

from ensembler.errors import RequestError


@dataclass(frozen=True)
class Cluster:
    """A Ray cluster that trains folds: of this machine alone, or the one at `address`.

    A fold takes `gpus` of a node (a fraction of one, too; None: one where the cluster has any).
    `may_be_open` lets a cluster do without a token. `sees_run` says whether its nodes see the
    folder of the run; None: that is found out.
    """

    address: str | None = None
    gpus: float | None = None
    may_be_open: bool = False
    sees_run: bool | None = None


@dataclass(frozen=True)
class Execution:
    """Where and how networks are trained and predict.

    `device` is auto, cpu, cuda, cuda:1 or mps; `workers` are the processes that augment images
    (None: none on a CPU, up to 8 for a GPU); `processes` says how many folds are trained at the
    same time; `engine` is what predicts (None: the recipe's). Folds are spread over `devices`,
    where several are named, or trained on a `cluster`; whatever else there is to do, `device` does.
    """

    device: str = "auto"
    workers: int | None = None
    processes: int = 1
    engine: str | None = None
    devices: tuple[str, ...] = ()
    cluster: Cluster | None = None

    @classmethod
    def on(
        cls,
        device: str,
        workers: int | None = None,
        processes: int = 1,
        cluster: Cluster | None = None,
    ) -> Execution:
        """An execution on one device, or on those in "cuda:0,cuda:1", each with a process at least.

        With a `cluster` the device is that of its nodes.

        Raises RequestError for a list that is none.
        """
        if "," not in device:
            return cls(device, workers, processes, cluster=cluster)
        if cluster is not None:
            raise RequestError(
                f"--device {device!r}: nodes of a cluster use the devices that Ray gives them; "
                "name a kind, such as cuda"
            )
        devices = tuple(part.strip() for part in device.split(","))
        vague = [name for name in devices if name in ("", "auto", "cuda")]
        cards = [name for name in devices if name != "cpu"]
        if vague or len(set(cards)) != len(cards):
            raise RequestError(
                f"--device {device!r}: expected each device once, such as cuda:0,cuda:1"
            )
        return cls(devices[0], workers, max(processes, len(devices)), devices=devices)


DEFAULT_EXECUTION = Execution()
