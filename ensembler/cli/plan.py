"""`ens plan RECIPE`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ensembler.cli.began import command_began
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
from ensembler.cli.terminal import print_json, print_table
from ensembler.deadline import parse_deadline
from ensembler.machine.execution import Execution
from ensembler.reporting.tables import Table, duration

if TYPE_CHECKING:
    from ensembler.pipeline.plan import Plan, Step


def command(
    recipe: RecipeArgument,
    deadline: DeadlineOption = None,
    overrides: Overrides = None,
    members: Members = None,
    folds: Folds = None,
    device: Devices = "auto",
    workers: Workers = None,
    jobs: Jobs = 1,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
    artifacts: Artifacts = None,
) -> None:
    """Say what `ens run` will do, in which order, how long it takes, and what fits."""
    began = command_began()
    end = None if deadline is None else parse_deadline(deadline, began=began)
    from ensembler.pipeline.check import check_training_installed
    from ensembler.predictions.store import artifacts_folder
    from ensembler.recipe import Recipe

    loaded = Recipe.load(recipe, overrides or ())
    check_training_installed("ens plan")
    from ensembler.pipeline.plan import plan_recipe

    with show_progress(quiet=quiet) as progress:
        plan = plan_recipe(
            loaded,
            artifacts_folder(artifacts),
            deadline=end,
            execution=Execution.on(device, workers, jobs),
            members=names(members),
            folds=fold_numbers(folds),
            began=began,
            progress=progress,
        )
    if json:
        print_json(plan.to_json())
        return
    print_table(_table(plan))


def _table(plan: Plan) -> Table:
    rows = tuple(_row(number, step) for number, step in enumerate(plan.steps, start=1))
    total = plan.seconds
    notes = [
        f"In all {duration(total.expected)} ({duration(total.low)} to {duration(total.high)})"
        + (
            "."
            if plan.deadline is None
            else f", until {plan.deadline.at:%Y-%m-%d %H:%M:%S}."
        )
    ]
    if plan.left_out:
        n_folds = sum(step.kind == "fold" for step in plan.left_out)
        notes.append(f"Folds left out for want of time: {n_folds}.")
    if plan.shortest is not None:
        notes.append(
            f"The shortest deadline with a submission: {duration(plan.shortest)} from now."
        )
    notes += [f"{note[0].upper()}{note[1:]}." for note in plan.notes]
    title = f"What `ens run` will do in run {plan.run}"
    columns = ("step", "member", "fold", "takes", "from", "to", "planned", "why")
    return Table(title, columns, rows, tuple(notes))


def _row(number: int, step: Step) -> tuple[str | int | None, ...]:
    seconds = step.seconds
    return (
        f"{number} {step.kind}",
        step.member,
        step.fold,
        duration(seconds.expected),
        duration(seconds.low),
        duration(seconds.high),
        "yes" if step.planned else "no",
        step.reason,
    )
