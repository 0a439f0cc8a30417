"""`ens evaluate RUN`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ensembler.cli.options import Artifacts, Debug, Json, Members, Quiet, RunArgument, names
from ensembler.cli.progress import show_progress
from ensembler.cli.terminal import print_json, print_table
from ensembler.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ensembler.evaluation.by_class import ByClass
    from ensembler.evaluation.conformal import Conformal
    from ensembler.evaluation.gains import PairedGains
    from ensembler.evaluation.prior_shift import PriorShift
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
    conformal: Annotated[
        float | None,
        typer.Option(
            "--conformal",
            metavar="SHARE",
            help="Also show sets of classes that hold the true one in this share of rows.",
        ),
    ] = None,
    conformal_method: Annotated[
        str,
        typer.Option("--conformal-method", help="How sets are made: raps or aps."),
    ] = "raps",
    shift: Annotated[
        bool,
        typer.Option(
            "--shift", help="Also estimate the shares of classes in the test rows."
        ),
    ] = False,
    metrics: Annotated[
        str | None, typer.Option("--metrics", metavar="A,B", help="Which scores to show.")
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
    artifacts: Artifacts = None,
) -> None:
    """Show members and blends side by side, out of fold and on the holdout."""
    from ensembler.evaluation.by_class import evaluate_by_class
    from ensembler.evaluation.conformal import check_conformal, evaluate_sets
    from ensembler.evaluation.evaluate import check_per, evaluate
    from ensembler.evaluation.gains import gains_over
    from ensembler.evaluation.prior_shift import estimate_shift
    from ensembler.evaluation.scores import SHOWN
    from ensembler.metrics import check_metric_name
    from ensembler.predictions.merging import check_merge, check_reduce
    from ensembler.predictions.store import RunStore

    shown = names(metrics) or SHOWN
    for name in shown:
        check_metric_name(name)
    asked = _Asked(check_per(per), confusion=confusion, by_view=by_view, over=over)
    asked.check()
    how = None if conformal is None else check_conformal(conformal, conformal_method)
    store = RunStore.open(run, artifacts)
    _introduce_own(shown, quiet=quiet or json)
    selection: dict[str, Any] = {
        "members": names(members),
        "merge": check_merge(merge),
        "views": names(views),
        "target": target,
    }
    result = evaluate(
        store,
        **selection,
        by_view=by_view,
        metrics=shown,
        per="group" if asked.per == "group" else "row",
        reduce=check_reduce(reduce),
    )
    by_class = evaluate_by_class(store, **selection) if asked.by_class else None
    gains = None
    if over is not None:
        compared = [name for name in shown if name != "ece"] if metrics is None else shown
        gains = gains_over(store, over, **selection, metrics=compared)
    chosen: dict[str, Any] = {"members": names(members), "target": target}
    sets = None
    if conformal is not None and how is not None:
        sets = evaluate_sets(store, conformal, how, **chosen)
    shifted = estimate_shift(store, **chosen) if shift else None
    found = _Found(result, by_class, gains, sets, shifted)
    if json:
        print_json(found.to_json(asked))
    else:
        found.show(asked, shown, names(members))


@dataclass(frozen=True)
class _Asked:
    """What is asked for beside the scores, and whether it goes together."""

    per: str
    confusion: bool
    by_view: bool
    over: str | None

    @property
    def by_class(self) -> bool:
        """Whether anything is counted class by class."""
        return self.confusion or self.per == "class"

    def check(self) -> None:
        """Raise RequestError where two options exclude each other."""
        if self.by_view and self.by_class:
            raise RequestError(
                "classes are counted over all views together; leave out --by-view, or name one "
                "view with --views"
            )
        if self.confusion and self.per == "group":
            raise RequestError("--confusion counts rows; leave out --per group")
        if self.over is not None and (self.per == "group" or self.by_view):
            raise RequestError("--over compares rows; leave out --per group and --by-view")


@dataclass(frozen=True)
class _Found:
    """What the command found."""

    evaluation: Evaluation
    by_class: ByClass | None
    gains: PairedGains | None
    sets: Conformal | None = None
    shift: PriorShift | None = None

    def to_json(self, asked: _Asked) -> dict[str, Any]:
        answer = self.evaluation.to_json()
        if self.gains is not None:
            answer["gains"] = self.gains.to_json()
        if self.sets is not None:
            answer["conformal"] = self.sets.to_json()
        if self.shift is not None:
            answer["shift"] = self.shift.to_json()
        if self.by_class is not None:
            per_class = asked.per == "class"
            answer |= self.by_class.to_json(per_class=per_class, confusion=asked.confusion)
        return answer

    def show(
        self, asked: _Asked, metrics: Sequence[str], members: Sequence[str] | None
    ) -> None:
        """Print it for people: the classes when they are asked for, else the scores."""
        from ensembler.blending.judging.remarks import ordered_classes
        from ensembler.evaluation.set_tables import sets_table, shift_table
        from ensembler.evaluation.tables import gains_table

        if self.by_class is None:
            print_evaluation(self.evaluation, metrics)
        else:
            _print_by_class(self.by_class, asked, members)
        if self.sets is not None:
            print_table(sets_table(self.sets))
        if self.shift is not None:
            print_table(shift_table(self.shift))
        remarks = [ordered_classes(name, self.evaluation.classes) for name in metrics]
        for remark in [found for found in remarks if found is not None][:1]:
            print(f"note: {remark.message}")
        if self.gains is not None:
            print_table(gains_table(self.gains.over, self.gains.rows, self.gains.n_groups))
            for warning in self.gains.warnings:
                print(f"warning: {warning.message}")


def _introduce_own(metrics: Sequence[str], *, quiet: bool) -> None:
    """Say which functions of the user's own are among the metrics."""
    from pathlib import Path

    from ensembler.recipe.own_code import introduce_code, own_among

    if code := own_among(metrics):
        with show_progress(quiet=quiet) as progress:
            introduce_code(dict.fromkeys(code, "metric"), progress, [Path.cwd()])


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


def _print_by_class(result: ByClass, asked: _Asked, members: Sequence[str] | None) -> None:
    """Print what classes are worth, or are taken for, of one prediction or of those named."""
    from ensembler.evaluation.class_tables import class_tables, confusion_tables

    per_class = asked.per == "class"
    tables = class_tables(result, members) if per_class else []
    if asked.confusion:
        tables += confusion_tables(result, members)
    for table in tables:
        print_table(table)
    if asked.confusion and result.without_matrix:
        targets = ", ".join(result.without_matrix)
        print(f"No confusion matrix of {targets}: rows have several labels at once.")
    if per_class and result.groups:
        print("Intervals are those of whole groups.")
    if members is None:
        print("--members A,B shows members, --json all members and blends.")
