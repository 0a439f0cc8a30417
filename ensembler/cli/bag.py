"""`ens bag RECIPE`, also called `ens ensemble`."""

from __future__ import annotations

from ensembler.cli.cluster import Address, ExecutorOption, Gpus, Insecure, cluster_of
from ensembler.cli.kfold import train_and_report
from ensembler.cli.options import (
    Artifacts,
    Debug,
    Devices,
    Folds,
    Jobs,
    Json,
    Members,
    Overrides,
    Quiet,
    RecipeArgument,
)
from ensembler.machine.execution import Execution


def command(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    members: Members = None,
    folds: Folds = None,
    device: Devices = "auto",
    jobs: Jobs = 1,
    executor: ExecutorOption = "local",
    address: Address = None,
    gpus: Gpus = None,
    insecure: Insecure = False,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
    artifacts: Artifacts = None,
) -> None:
    """Train the members that torchensemble makes (bagging, ...); also called `ens ensemble`."""
    cluster = cluster_of(executor, address, gpus, insecure=insecure)
    train_and_report(
        "bag",
        recipe,
        overrides,
        members,
        folds,
        Execution.on(device, processes=jobs, cluster=cluster),
        json=json,
        quiet=quiet,
        artifacts=artifacts,
    )
