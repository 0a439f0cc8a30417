"""`ens evaluate RUN`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ensembler.cli.options import Artifacts, Debug, Json, Members, Quiet, RunArgument, names
from ensembler.cli.progress import show_progress
from ensembler.cli.terminal import number, print_json, print_table
from ensembler.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ensembler.blending.judging.comparison import Difference
    from ensembler.evaluation.evaluate import Evaluation, ScoreRow

SHOWN = ("accuracy", "f1_macro", "log_loss", "ece")


def command(
    run: RunArgument,
    members: Members = None,
    by_view: Annotated[
        bool, typer.Option("--by-view", help="Also score each view by itself.")
    ] = False,
    merge: Annotated[
        str, typer.Option("--merge", help="How views are merged: mean, logits, geometric or max.")
    ] = "mean",
    views: Annotated[
        str | None, typer.Option("--views", metavar="A,B", help="Only these views.")
    ] = None,
    target: Annotated[
        str | None, typer.Option("--target", help="Only members and blends of this target.")
    ] = None,
    per: Annotated[
        str, typer.Option("--per", help="Score each row, or each group as one: row or group.")
    ] = "row",
    reduce: Annotated[
        str,
        typer.Option(
            "--reduce", help="With --per group, how its rows are merged: mean, vote or max."
        ),
    ] = "mean",
    over: Annotated[
        str | None,
        typer.Option(
            "--over",
            metavar="NAME",
            help="Also compare each with this member or blend, paired, with intervals.",
        ),
    ] = None,
    metrics: Annotated[
        str | None, typer.Option("--metrics", metavar="A,B", help="Which scores to show.")
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
    artifacts: Artifacts = None,
) -> None:
    """Show members and blends side by side, out of fold and on the holdout."""
    from pathlib import Path

    from ensembler.blending.judging.remarks import ordered_classes
    from ensembler.evaluation.evaluate import check_per, evaluate
    from ensembler.metrics import check_metric_name
    from ensembler.predictions.merging import check_merge, check_reduce
    from ensembler.predictions.store import RunStore
    from ensembler.recipe.own_code import introduce_code, own_among

    shown = names(metrics) or SHOWN
    for name in shown:
        check_metric_name(name)
    store = RunStore.open(run, artifacts)
    if code := own_among(shown):
        with show_progress(quiet=quiet or json) as progress:
            introduce_code(dict.fromkeys(code, "metric"), progress, [Path.cwd()])
    result = evaluate(
        store,
        members=names(members),
        merge=check_merge(merge),
        views=names(views),
        by_view=by_view,
        target=target,
        metrics=shown,
        per=check_per(per),
        reduce=check_reduce(reduce),
    )
    gains = None
    if over is not None:
        from ensembler.evaluation.gains import gains_over

        if per == "group" or by_view:
            raise RequestError("--over compares rows; leave out --per group and --by-view")
        gains = gains_over(
            store,
            over,
            members=names(members),
            target=target,
            merge=check_merge(merge),
            views=names(views),
            metrics=[name for name in shown if name != "ece"] if metrics is None else shown,
        )
    if json:
        print_json(result.to_json() | ({} if gains is None else {"gains": gains.to_json()}))
    else:
        print_evaluation(result, shown)
        if (
            note := next(
                filter(None, (ordered_classes(name, result.classes) for name in shown)), None
            )
        ) is not None:
            print(f"note: {note.message}")
        if gains is not None:
            print_gains(gains.over, gains.rows, gains.n_groups)
            for warning in gains.warnings:
                print(f"warning: {warning.message}")


def print_evaluation(evaluation: Evaluation, metrics: tuple[str, ...] = SHOWN) -> None:
    """Print one table for out-of-fold scores and one for held-out rows."""
    titles = {
        "oof": "out of fold (a blend's figures are cross-fitted)",
        "holdout": "held-out rows, on which nothing was fitted",
    }
    for split, title in titles.items():
        rows = [row for row in evaluation.rows if row.split == split]
        if not rows:
            continue
        best = [i for i, row in enumerate(rows) if row.submitted]
        several = len({row.target for row in rows}) > 1
        body = [
            [
                _label(row, several=several),
                *(number(row.metrics.get(name)) for name in metrics),
                str(row.n),
            ]
            for row in rows
        ]
        print_table(
            f"{evaluation.run}: {title}",
            ["target / name" if several else "name", *metrics, "rows"],
            body,
            best=best,
        )
    if evaluation.flattered:
        names = ", ".join(evaluation.flattered)
        print(
            f"Out-of-fold scores of {names} flatter: their epochs were chosen by the rows they "
            "are scored on (choose: best, patience)."
        )


def print_gains(over: str, rows: Sequence[tuple[str, Difference]], n_groups: int | None) -> None:
    """Print gains over one prediction with the intervals that hold for all comparisons together."""
    body = [
        [name, d.metric, f"{d.value:+.4f}", f"{d.joint_low:+.4f} to {d.joint_high:+.4f}", d.verdict]
        for name, d in rows
    ]
    print_table(
        f"gain over {over} (positive is better)",
        ["name", "metric", "gain", "95 % interval", ""],
        body,
    )
    n_comparisons = len({name for name, _ in rows})
    units = "rows" if n_groups is None else f"whole groups ({n_groups})"
    together = "one comparison for each metric"
    if n_comparisons > 1:
        together = f"the intervals of a metric hold for its {n_comparisons} comparisons together, and are wider for it"
    print(f"Paired by row, independent {units}; {together}.")


def _label(row: ScoreRow, *, several: bool) -> str:
    label = f"{row.name} / {row.view}" if row.view else row.name
    if row.kind == "blend":
        label = f"blend {label}"
    label = f"{row.target} / {label}" if several else label
    return f"{label} (submitted)" if row.submitted else label
