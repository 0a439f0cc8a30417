"""`ens kfold RECIPE`."""

from __future__ import annotations

from pathlib import Path

import typer

from ensembler.cli.cluster import Address, ExecutorOption, Gpus, Insecure, cluster_of
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
    Workers,
    fold_numbers,
    names,
)
from ensembler.cli.progress import show_progress
from ensembler.cli.terminal import print_json, stoppable
from ensembler.cli.tracking import tell_trackers, told_to_trackers
from ensembler.machine.execution import Execution


def command(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    members: Members = None,
    folds: Folds = None,
    device: Devices = "auto",
    workers: Workers = None,
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
    """Train the K-fold members; each fold's logits are kept as it finishes."""
    cluster = cluster_of(executor, address, gpus, insecure=insecure)
    train_and_report(
        "kfold",
        recipe,
        overrides,
        members,
        folds,
        Execution.on(device, workers, jobs, cluster),
        json=json,
        quiet=quiet,
        artifacts=artifacts,
    )


def train_and_report(
    name: str,
    recipe: Path,
    overrides: list[str] | None,
    members: str | None,
    folds: str | None,
    execution: Execution,
    *,
    json: bool,
    quiet: bool,
    artifacts: Path | None,
) -> None:
    """Train the members that `ens NAME` is for, and say what is there then."""
    from ensembler.pipeline.check import check_training_installed
    from ensembler.predictions.store import artifacts_folder
    from ensembler.recipe import Recipe

    loaded = Recipe.load(recipe, overrides or ())
    check_training_installed(f"ens {name}")
    from ensembler.pipeline.bag import train_ensembles
    from ensembler.pipeline.kfold import train_kfold

    train = {"kfold": train_kfold, "bag": train_ensembles}[name]
    with stoppable(f"`ens {name} {recipe}`"), show_progress(quiet=quiet) as progress:
        with told_to_trackers(loaded.spec, artifacts, progress) as told:
            result = train(
                loaded,
                artifacts_folder(artifacts),
                execution=execution,
                members=names(members),
                folds=fold_numbers(folds),
                progress=told,
            )
        tell_trackers(loaded.spec, artifacts, progress)
    if json:
        print_json(
            {
                "run": result.run,
                "trained_folds": len(result.trained),
                "complete": result.complete,
                "incomplete": result.incomplete,
                "failures": [failure.__dict__ for failure in result.failures],
            }
        )
    else:
        print(
            f"Trained {len(result.trained)} folds; complete members: "
            f"{', '.join(result.complete) or 'none'}."
        )
        if result.incomplete:
            print(f"Not complete yet: {', '.join(result.incomplete)}.")
        print(
            f"Next: `ens run {recipe}` blends and submits; `ens ls {result.run}` shows what is "
            "there."
        )
    if result.failures:
        raise typer.Exit(1)
