"""`ens blend RUN`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ensembler.cli.options import Artifacts, Debug, Json, Members, Quiet, RunArgument, names
from ensembler.cli.progress import show_progress
from ensembler.cli.terminal import number, print_json, print_table, stoppable

if TYPE_CHECKING:
    from ensembler.pipeline.blend import BlendOutcome


def command(
    run: RunArgument,
    method: Annotated[
        str | None, typer.Option("--method", help="auto, soft, hard, geometric, weights and the others in the docs.")
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option("--weights", metavar="A=2,B=1", help="Weights by hand, by name or in the order of `ens ls RUN`."),
    ] = None,
    members: Members = None,
    name: Annotated[str | None, typer.Option("--name", help="What the blend is called (default: the method).")] = None,
    metric: Annotated[str | None, typer.Option("--metric", help="What the blend is chosen by (log_loss).")] = None,
    options: Annotated[
        list[str] | None,
        typer.Option("--option", metavar="KEY=VALUE", help="An option of the method; may stand several times."),
    ] = None,
    merge: Annotated[str | None, typer.Option("--merge", help="How views are merged (mean).")] = None,
    views: Annotated[str | None, typer.Option("--views", metavar="A,B", help="Only these views.")] = None,
    trust: Annotated[
        str | None, typer.Option("--trust", metavar="A,B", help="Members to use although they look leaked.")
    ] = None,
    common_rows: Annotated[
        bool, typer.Option("--common-rows", help="Blend on the rows that all members predict.")
    ] = False,
    budget: Annotated[
        str | None,
        typer.Option("--budget", metavar="30s", help="Stop searching after this time, with the best so far."),
    ] = None,
    submit: Annotated[bool, typer.Option("--submit", help="Make this blend the submission.")] = False,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
    artifacts: Artifacts = None,
) -> None:
    """Combine the members' predictions into one; nothing is trained and no image is read."""
    from ensembler.pipeline.blend import blend_run, submission_spec, submit_blend
    from ensembler.pipeline.blend_request import blend_spec, seconds
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
        options=options or (),
    )
    with stoppable(f"`ens blend {run}`"), show_progress(quiet=quiet or json) as progress:
        outcome = blend_run(
            store,
            spec,
            common_rows=common_rows,
            trust=names(trust) or (),
            budget=None if budget is None else seconds(budget),
            on_progress=progress.step,
        )
        submitted = submit and submit_blend(store, outcome.result.name, submission_spec(store))
        if not json:
            for warning in outcome.result.warnings:
                progress.warn(str(warning["message"]))
    if json:
        print_json({**outcome.to_json(), "submitted": submitted})
    else:
        print_outcome(outcome)
        if submitted:
            print(f"It is the submission now: {store.submission_path}")
        else:
            print(
                f"`ens blend {run} --name {outcome.result.name} --submit ...` or `ens submit {run} --blend "
                f"{outcome.result.name}` hands it in."
            )


def print_outcome(outcome: BlendOutcome) -> None:
    """Print weights, the three scores and the gain of a blend."""
    result = outcome.result
    weights = result.weights or {}
    if weights:
        rows = [[member, number(weight)] for member, weight in weights.items()]
        print_table(f"{outcome.run}: blend {result.name} ({result.method})", ["member", "weight"], rows)
    columns = ["cross_fitted", "fitted", "holdout"]
    metrics = list(result.scores["cross_fitted"] or {})
    body = [
        [metric, *(number((result.scores.get(column) or {}).get(metric)) for column in columns)] for metric in metrics
    ]
    print_table(f"scores of {result.name} on {outcome.n_rows} rows", ["metric", *columns], body)
    gains = [result.gain] if result.gain is not None else []
    for gain in [*gains, *result.details.get("gains", [])]:
        noise = "" if gain.get("beyond_noise", gain["low"] > 0) else "; no gain beyond noise"
        print(
            f"gain over {gain['over']} in {gain['metric']}: {gain['value']:.4f} "
            f"({gain['low']:.4f} to {gain['high']:.4f}){noise}"
        )
