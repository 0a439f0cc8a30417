"""`ens blend RUN`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ensembler.cli.options import Artifacts, Debug, Json, Members, Quiet, RunArgument, names
from ensembler.cli.progress import show_progress
from ensembler.cli.terminal import print_json, print_table, stoppable

if TYPE_CHECKING:
    from ensembler.blends.keep import BlendOutcome


def command(
    run: RunArgument,
    method: Annotated[
        str | None,
        typer.Option(
            "--method",
            help="auto, soft, hard, geometric, weights, greedy, simplex, loglinear, stack, ...",
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            "--weights",
            metavar="A=2,B=1",
            help="Weights by hand, by name or in the order of `ens ls RUN`.",
        ),
    ] = None,
    members: Members = None,
    target: Annotated[
        str | None,
        typer.Option(
            "--target", help="Blend the members of this target alone (default: the label)."
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option("--name", help="What the blend is called (default: the method)."),
    ] = None,
    metric: Annotated[
        str | None, typer.Option("--metric", help="What the blend is chosen by (log_loss).")
    ] = None,
    options: Annotated[
        list[str] | None,
        typer.Option(
            "--option",
            metavar="KEY=VALUE",
            help="An option of the method (repeatable).",
        ),
    ] = None,
    calibrate: Annotated[
        str | None,
        typer.Option(
            "--calibrate",
            help="Calibrate the blended probabilities: none, temperature, vector or biases.",
        ),
    ] = None,
    calibrate_members: Annotated[
        str | None,
        typer.Option(
            "--calibrate-members",
            help="Calibrate each member first: none, temperature or vector.",
        ),
    ] = None,
    prune: Annotated[
        float | None,
        typer.Option(
            "--prune",
            metavar="0.02",
            help="Drop near-duplicates: members within this distance of a better one.",
        ),
    ] = None,
    max_cost: Annotated[
        float | None,
        typer.Option(
            "--max-cost",
            metavar="SECONDS",
            help="Inference budget: seconds a sample may take.",
        ),
    ] = None,
    costs: Annotated[
        str | None,
        typer.Option(
            "--costs",
            metavar="A=0.01,B=0.002",
            help="Seconds a sample by member, where not measured.",
        ),
    ] = None,
    explain: Annotated[
        bool,
        typer.Option(
            "--explain",
            help="Show the search path, each member's contribution, and reliability tables.",
        ),
    ] = False,
    merge: Annotated[
        str | None, typer.Option("--merge", help="How views are merged (mean).")
    ] = None,
    views: Annotated[
        str | None, typer.Option("--views", metavar="A,B", help="Only these views.")
    ] = None,
    trust: Annotated[
        str | None,
        typer.Option(
            "--trust", metavar="A,B", help="Use these members although they look leaked."
        ),
    ] = None,
    common_rows: Annotated[
        bool,
        typer.Option("--common-rows", help="Blend on the rows that all members predict."),
    ] = False,
    budget: Annotated[
        str | None,
        typer.Option(
            "--budget",
            metavar="30s",
            help="Stop the search after this time and keep the best blend so far.",
        ),
    ] = None,
    submit: Annotated[
        bool, typer.Option("--submit", help="Make this blend the submission.")
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
    artifacts: Artifacts = None,
) -> None:
    """Combine the members' predictions into one; nothing is trained and no image is read."""
    from functools import partial
    from pathlib import Path

    from ensembler.blends.blend import blend_run
    from ensembler.blends.composed import blend_label
    from ensembler.blends.request import blend_spec, parse_costs, seconds
    from ensembler.blends.submit import submission_spec, submit_blend
    from ensembler.blends.tables import explanation_tables
    from ensembler.predictions.store import RunStore

    store = RunStore.open(run, artifacts)
    spec = blend_spec(
        store,
        method=method,
        weights=weights,
        members=names(members),
        name=name,
        metric=metric,
        merge=merge,
        views=names(views),
        calibrate=calibrate,
        calibrate_members=calibrate_members,
        prune=prune,
        max_cost=max_cost,
        options=options or (),
    )
    with stoppable(f"`ens blend {run}`"), show_progress(quiet=quiet or json) as progress:
        if spec.code:
            from ensembler.recipe.own_code import introduce_code

            introduce_code(spec.code, progress, [Path.cwd()])
        blend = blend_label if target is None else partial(blend_run, target=target)
        outcome = blend(
            store,
            spec,
            common_rows=common_rows,
            trust=names(trust) or (),
            budget=None if budget is None else seconds(budget),
            progress=progress,
            costs=None if costs is None else parse_costs(costs),
            explain=explain,
        )
        submitted = submit and submit_blend(
            store, outcome.result.name, submission_spec(store), by_hand=True
        )
        if not json:
            for warning in outcome.result.warnings:
                progress.warn(str(warning["message"]))
    if json:
        print_json({**outcome.to_json(), "submitted": submitted})
    else:
        for stage in outcome.stages:
            print_outcome(stage)
        print_outcome(outcome)
        if explain:
            for table in explanation_tables(outcome.result):
                print_table(table)
        if submitted:
            print(f"It is the submission now: {store.submission_path}")
        else:
            print(
                f"`ens blend {run} --name {outcome.result.name} --submit ...` or `ens "
                f"submit {run} --blend {outcome.result.name}` submits it."
            )


def print_outcome(outcome: BlendOutcome) -> None:
    """Print weights, the three scores and the gains of a blend."""
    if not outcome.result.details.members:
        tasks = ", ".join(outcome.result.details.tasks.values())
        print(f"{outcome.title}: the product of {tasks}")
    for table in outcome.tables():
        print_table(table)
