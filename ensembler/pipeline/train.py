"""Training what is missing of a recipe's members, the submission renewed after each fold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ensembler.errors import RequestError
from ensembler.execution.executors import executor_of
from ensembler.machine.execution import DEFAULT_EXECUTION, Execution
from ensembler.members.option_claims import check_nobody_trains_otherwise
from ensembler.members.prices import PriceList
from ensembler.members.refit import refit_members
from ensembler.members.schedule import KFoldResult, Schedule, is_stacked
from ensembler.members.short_folds import (
    discard_short_members,
    has_finished_folds,
    short_members,
)
from ensembler.pipeline.check import check_execution, check_recipe
from ensembler.progress import QUIET, Progress
from ensembler.recipe.load import Recipe
from ensembler.recipe.own_code import introduce_code_of
from ensembler.reporting.provisional import renew_submission
from ensembler.reporting.submitted import check_submission
from ensembler.stop import Stop
from ensembler.workspace.epochs import keep_epochs
from ensembler.workspace.workspace import Workspace, open_workspace


def train_members(
    workspace: Workspace,
    *,
    execution: Execution = DEFAULT_EXECUTION,
    members: Sequence[str] | None = None,
    folds: Sequence[int] | None = None,
    methods: Sequence[str] | None = None,
    stop: Stop | None = None,
) -> KFoldResult:
    """Train the missing folds, renewing the submission after each.

    `methods` are the kinds of members that are trained (default: all).
    """
    spec = workspace.spec
    label = workspace.samples.targets[0]
    check_submission(
        workspace.store, spec.submission, label, workspace.samples.classes[label]
    )

    def renew() -> None:
        store = workspace.store.again()
        done = set(store.complete_members)
        # A member that is the mean of others is counted through them until it is there.
        names = [
            j.name
            for j in workspace.members
            if j.in_pool or not _whole_of(workspace, j.name) & done
        ]
        has_whole_folds = has_finished_folds(store)
        if not has_whole_folds:
            names = short_members(store)
        options: dict[str, Any] = {
            "target": label,
            "metric": spec.blend.metric,
            "members": names,
        }
        renew_submission(store, spec.submission, progress=workspace.progress, **options)
        if has_whole_folds:
            discard_short_members(store)

    schedule = Schedule(
        workspace,
        executor_of(execution),
        PriceList.of(workspace, execution),
        after_fold=renew,
        stop=Stop() if stop is None else stop,
    )
    selected = [
        planned
        for planned in workspace.select(members)
        if methods is None or planned.spec.method in methods
    ]
    if methods is not None and not selected:
        there = sorted({planned.spec.method for planned in workspace.select(members)})
        raise RequestError(
            f"no member to train has the method {' or '.join(methods)}, only "
            f"{' and '.join(there)}; `ens run` trains all methods, `ens kfold` the methods "
            "kfold, soup, probe and tabular, `ens bag` the others"
        )
    stacked = [member for member in selected if is_stacked(member)]
    result = schedule.train([m for m in selected if m not in stacked], folds)
    if stacked and result.stopped is None:
        # their columns are what the others predict
        result = result.with_later(schedule.train(stacked, folds))
    if folds is None and result.stopped is None:
        left_out = refit_members(workspace, selected, execution=execution, stop=stop)
        if left_out:
            reason = (None if stop is None else stop.reason) or "deadline"
            result = replace(result, stopped=reason, left_out=tuple(left_out))
    return result


def fix_epochs(
    workspace: Workspace, members: Sequence[str] | None, chosen: Mapping[str, int]
) -> Workspace:
    """The workspace with the epochs of `members` fixed, where the recipe says `epochs: auto`.

    They are those that were fixed before, else those `chosen`, else the default; they are kept in
    the run's lock, so that no later start trains with others.
    """
    entries = {planned.entry for planned in workspace.select(members)}
    recipe = keep_epochs(workspace.recipe, workspace.store, chosen, entries)
    return replace(workspace, recipe=recipe)


def _whole_of(workspace: Workspace, name: str) -> set[str]:
    """The members that `name` is a part of."""
    return {planned.name for planned in workspace.members if name in planned.parts}


def train_recipe(
    recipe: Recipe,
    artifacts: Path,
    *,
    execution: Execution = DEFAULT_EXECUTION,
    members: Sequence[str] | None = None,
    folds: Sequence[int] | None = None,
    progress: Progress = QUIET,
    methods: Sequence[str] | None = None,
    stop: Stop | None = None,
) -> KFoldResult:
    """Train what is missing of the members (or those named, or of some `methods`)."""
    introduce_code_of(recipe, progress)
    check_recipe(recipe)
    if recipe.spec.has_networks:
        check_execution(execution, progress)
    workspace = open_workspace(
        recipe, artifacts, progress, check=check_nobody_trains_otherwise
    )
    return train_members(
        fix_epochs(workspace, members, {}),
        execution=execution,
        members=members,
        folds=folds,
        methods=methods,
        stop=stop,
    )
