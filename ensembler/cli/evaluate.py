"""`ens evaluate RUN`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ensembler.cli.options import Artifacts, Debug, Json, Members, Quiet, RunArgument, names
from ensembler.cli.progress import show_progress
from ensembler.cli.terminal import print_json, print_table
from ensembler.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ensembler.evaluation.by_class import ByClass
    from ensembler.evaluation.scores import Evaluation


def command(
    run: RunArgument,
    members: Members = None,
    by_view: Annotated[
        bool, typer.Option("--by-view", help="Also score each view by itself.")
    ] = False,
    merge: Annotated[
        str,
        typer.Option(
            "--merge", help="How views are merged: mean, logits, geometric or max."
        ),
    ] = "mean",
    views: Annotated[
        str | None, typer.Option("--views", metavar="A,B", help="Only these views.")
    ] = None,
    target: Annotated[
        str | None, typer.Option("--target", help="Only members and blends of this target.")
    ] = None,
    per: Annotated[
        str,
        typer.Option(
            "--per",
            help="Score each row, each group as one, or class by class: row, group or class.",
        ),
    ] = "row",
    confusion: Annotated[
        bool, typer.Option("--confusion", help="Show which classes are taken for which.")
    ] = False,
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
    from ensembler.evaluation.by_class import evaluate_by_class
    from ensembler.evaluation.evaluate import check_per, evaluate
    from ensembler.evaluation.scores import SHOWN
    from ensembler.evaluation.tables import gains_table
    from ensembler.metrics import check_metric_name
    from ensembler.predictions.merging import check_merge, check_reduce
    from ensembler.predictions.store import RunStore
    from ensembler.recipe.own_code import introduce_code, own_among

    shown = names(metrics) or SHOWN
    for name in shown:
        check_metric_name(name)
    asked_per = check_per(per)
    if by_view and (asked_per == "class" or confusion):
        raise RequestError(
            "classes are counted over all views together; leave out --by-view, or name one view "
            "with --views"
        )
    if confusion and asked_per == "group":
        raise RequestError("--confusion counts rows; leave out --per group")
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
        per="group" if asked_per == "group" else "row",
        reduce=check_reduce(reduce),
    )
    by_class = None
    if asked_per == "class" or confusion:
        by_class = evaluate_by_class(
            store,
            members=names(members),
            merge=check_merge(merge),
            views=names(views),
            target=target,
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
        answer = result.to_json()
        if gains is not None:
            answer["gains"] = gains.to_json()
        if by_class is not None:
            answer |= by_class.to_json(per_class=asked_per == "class", confusion=confusion)
        print_json(answer)
        return
    if by_class is None:
        print_evaluation(result, shown)
    else:
        print_by_class(
            by_class, names(members), per_class=asked_per == "class", confusion=confusion
        )
    remarks = [ordered_classes(name, result.classes) for name in shown]
    for remark in [found for found in remarks if found is not None][:1]:
        print(f"note: {remark.message}")
    if gains is not None:
        print_table(gains_table(gains.over, gains.rows, gains.n_groups))
        for warning in gains.warnings:
            print(f"warning: {warning.message}")


def print_evaluation(evaluation: Evaluation, metrics: Sequence[str] | None = None) -> None:
    """Print one table for out-of-fold scores and one for held-out rows."""
    for table in evaluation.tables() if metrics is None else evaluation.tables(metrics):
        print_table(table)
    if evaluation.students:
        names = ", ".join(evaluation.students)
        print(
            f"Out-of-fold scores of {names} are flattered: what taught a student has seen the "
            "labels it is scored by. A holdout tells what it is worth."
        )
    if evaluation.unscored:
        names = ", ".join(evaluation.unscored)
        print(
            f"Out-of-fold scores of {names} are those of the folds; networks on all rows predict "
            "the test rows, and only a holdout scores these."
        )
    if evaluation.optimistic:
        names = ", ".join(evaluation.optimistic)
        print(
            f"Out-of-fold scores of {names} are optimistic: their epochs were chosen by the rows "
            "they are scored on (choose: best, patience)."
        )


def print_by_class(
    result: ByClass, members: Sequence[str] | None, *, per_class: bool, confusion: bool
) -> None:
    """Print what each class is worth, or which are taken for which, of one prediction or several."""
    from ensembler.evaluation.class_tables import class_tables, confusion_tables

    tables = class_tables(result, members) if per_class else []
    if confusion:
        tables += confusion_tables(result, members)
    for table in tables:
        print_table(table)
    if confusion and result.without_matrix:
        targets = ", ".join(result.without_matrix)
        print(f"{targets}: rows have several labels at once, which one takes for no other.")
    if per_class and result.groups:
        print("Intervals are those of whole groups.")
    if members is None:
        print("--members A,B shows members, --json all members and blends.")
