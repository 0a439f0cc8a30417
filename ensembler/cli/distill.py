"""`ens distill RUN`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ensembler.cli.options import (
    Artifacts,
    Debug,
    Device,
    Json,
    Quiet,
    RunArgument,
    Workers,
)
from ensembler.cli.progress import show_progress
from ensembler.cli.terminal import print_json, stoppable
from ensembler.machine.execution import Execution


def command(
    run: RunArgument,
    student: Annotated[
        str,
        typer.Option(
            "--student", metavar="BACKBONE", help="The student's backbone (timm)."
        ),
    ],
    name: Annotated[
        str, typer.Option("--name", metavar="NAME", help="What the student is called.")
    ] = "student",
    blend: Annotated[
        str | None,
        typer.Option("--blend", metavar="NAME", help="The teacher (the submitted blend)."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data", metavar="IMAGES", help="Further images without labels: folder or CSV."
        ),
    ] = None,
    with_test: Annotated[
        bool,
        typer.Option("--with-test", help="Learn from the test rows without a label, too."),
    ] = False,
    teacher_views: Annotated[
        bool,
        typer.Option(
            "--teacher-views",
            help="Learn from each of the run's views the teacher's answer to that view.",
        ),
    ] = False,
    own_fold: Annotated[
        bool,
        typer.Option(
            "--own-fold",
            help="Learn train rows from their labels, and images without labels from the fold's "
            "own networks: scores out of fold stay honest.",
        ),
    ] = False,
    temperature: Annotated[
        float,
        typer.Option("--temperature", min=0.1, max=100.0, help="Softens both sides."),
    ] = 1.0,
    hard: Annotated[
        float,
        typer.Option("--hard", min=0.0, max=1.0, help="The labels' share of the loss."),
    ] = 0.1,
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--option",
            metavar="KEY=VALUE",
            help="An option of the student, as of any member (repeatable): epochs=30.",
        ),
    ] = None,
    device: Device = "auto",
    workers: Workers = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
    artifacts: Artifacts = None,
) -> None:
    """Train one small member that learns from a blend; held-out rows score it honestly."""
    from ensembler.pipeline.check import check_training_installed
    from ensembler.predictions.store import RunStore
    from ensembler.recipe.document import typed_options

    store = RunStore.open(run, artifacts)
    options = typed_options(option or ())
    check_training_installed("ens distill")
    from ensembler.members.option_claims import check_nobody_trains_otherwise
    from ensembler.pipeline.distill import Lesson, distill
    from ensembler.workspace.workspace import workspace_of_run

    lesson = Lesson(
        student,
        name,
        blend,
        options,
        data,
        with_test,
        teacher_views,
        temperature,
        hard,
        own_fold,
    )
    same = f"the same `ens distill {run}`"
    with stoppable(same), show_progress(quiet=quiet) as progress:
        workspace = workspace_of_run(store, progress, check=check_nobody_trains_otherwise)
        result = distill(workspace, lesson, execution=Execution(device, workers))
    if json:
        print_json(result.to_json())
        return
    print(result.words)
    print(f"Next: `ens pack {run} --blend {result.member}`; `ens evaluate {run}`.")
