"""Options of the commands that may train folds on a cluster."""

from __future__ import annotations

from typing import Annotated

import typer

from ensembler.errors import RequestError, UnknownNameError
from ensembler.machine.execution import Cluster

EXECUTORS = ("local", "ray")

ExecutorOption = Annotated[
    str,
    typer.Option(
        "--executor",
        metavar="local|ray",
        help="Where folds are trained: on this machine, or on a Ray cluster.",
    ),
]
Address = Annotated[
    str | None,
    typer.Option(
        "--address",
        metavar="HOST:PORT",
        help="The cluster's head; without it Ray is started on this machine alone.",
    ),
]
Gpus = Annotated[
    float | None,
    typer.Option(
        "--gpus",
        min=0.0,
        metavar="N",
        help="GPUs that a fold takes of a node, such as 0.5 (default: 1 where there are any).",
    ),
]
Insecure = Annotated[
    bool,
    typer.Option(
        "--insecure-cluster",
        help="Use a cluster without a token: whoever reaches its ports runs programs on it.",
    ),
]


def cluster_of(
    executor: str, address: str | None, gpus: float | None, *, insecure: bool
) -> Cluster | None:
    """The cluster that the options name; None for this machine."""
    if executor not in EXECUTORS:
        raise UnknownNameError("executor", executor, EXECUTORS)
    if address is not None and not address.strip():
        raise RequestError(
            "--address is empty, expected the host and port of the cluster's head"
        )
    if executor == "ray":
        return Cluster(address, gpus, may_be_open=insecure)
    given = {"--address": address, "--gpus": gpus, "--insecure-cluster": insecure or None}
    for option, value in given.items():
        if value is not None:
            raise RequestError(f"{option} goes with --executor ray")
    return None
