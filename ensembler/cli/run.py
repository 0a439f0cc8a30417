"""`ens run RECIPE`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ensembler.cli.began import command_began
from ensembler.cli.cluster import Address, ExecutorOption, Gpus, Insecure, cluster_of
from ensembler.cli.options import (
    Artifacts,
    DeadlineOption,
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
from ensembler.deadline import parse_deadline
from ensembler.machine.execution import Execution
from ensembler.signals import SignalStop

if TYPE_CHECKING:
    from ensembler.members.executor import LeftOut
    from ensembler.pipeline.run import RunResult
    from ensembler.progress import Progress


def command(
    recipe: RecipeArgument,
    deadline: DeadlineOption = None,
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
    """Do everything that is missing: train, predict, blend, submit. A second run does nothing."""
    began = command_began()
    end = None if deadline is None else parse_deadline(deadline, began=began)
    from ensembler.cli.evaluate import print_evaluation
    from ensembler.pipeline.check import check_needs
    from ensembler.predictions.store import artifacts_folder
    from ensembler.recipe import Recipe

    cluster = cluster_of(executor, address, gpus, insecure=insecure)
    loaded = Recipe.load(recipe, overrides or ())
    check_needs(loaded)
    from ensembler.pipeline.run import run_recipe

    with (
        stoppable(f"`ens run {recipe}`"),
        show_progress(quiet=quiet) as progress,
        (stop := SignalStop(progress.warn)).released(),
    ):
        with told_to_trackers(loaded.spec, artifacts, progress) as told:
            result = run_recipe(
                loaded,
                artifacts_folder(artifacts),
                execution=Execution.on(device, workers, jobs, cluster),
                members=names(members),
                folds=fold_numbers(folds),
                progress=told,
                stop=stop,
                deadline=end,
            )
        report = _write_report(result, progress)
        tell_trackers(loaded.spec, artifacts, progress)
    failures = [failure.__dict__ for failure in result.failures]
    if json:
        evaluation = result.evaluation.to_json() if result.evaluation else None
        print_json(
            {
                "run": result.run,
                "folder": str(result.folder),
                "trained_folds": result.trained,
                "blend": result.blend,
                "submission": str(result.submission) if result.submission else None,
                "report": str(report) if report else None,
                "seconds": time.monotonic() - began,
                "stopped": result.stopped,
                "left_out": [_left_out(fold) for fold in result.left_out],
                "failures": failures,
                "evaluation": evaluation,
            }
        )
    else:
        if result.evaluation is not None:
            print_evaluation(result.evaluation)
        if result.stopped is not None:
            print(_stopped(result, recipe))
        elif not result.trained and not result.new_blend and not failures:
            print("Everything was there already; nothing was trained or blended.")
        print(f"The run is in {result.folder}.")
        if result.submission:
            print(f"Ready to submit: {result.submission}")
        if report:
            print(f"To look at: {report}")
    has_nothing = result.stopped is not None and not result.has_folds
    if failures or has_nothing:
        raise typer.Exit(1)


def _write_report(result: RunResult, progress: Progress) -> Path | None:
    """Write the run's page where something is new; whatever goes wrong with it, the run is done.

    A run that was stopped leaves it to `ens report`, for its time is over.
    """
    from ensembler.predictions.store import RunStore
    from ensembler.report.report import REPORT, report_run

    path = result.folder / REPORT
    is_new = result.trained or result.new_blend or result.failures
    if result.stopped is not None or (path.is_file() and not is_new):
        return path if path.is_file() else None
    try:
        return report_run(RunStore(result.folder), result.folder.parent).file
    except Exception as error:  # whatever it is, a page is not worth a finished run
        progress.warn(
            f"{path} was not written: {error}; `ens report {result.run}` tries again"
        )
        return None


def _left_out(fold: LeftOut) -> dict[str, str | int]:
    return {"member": fold.task.training, "fold": fold.task.fold, "reason": fold.reason}


def _stopped(result: RunResult, recipe: Path) -> str:
    """Why a run ended early, what was left out, and how it is resumed."""
    why = {"deadline": "Stopped for the deadline", "interrupted": "Interrupted"}
    n = len(result.left_out)
    left = f"; folds left out: {n}" if n else ""
    nothing = (
        "" if result.has_folds else " No fold was finished, so there is no submission."
    )
    return (
        f"{why.get(str(result.stopped), 'Stopped')}{left}.{nothing} `ens run {recipe}` trains what "
        "is missing."
    )
