"""`ens run`: everything a recipe asks for that is not there yet, in order."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ensembler.audit.audit import audit_samples
from ensembler.audit.findings import INFLATES_SCORES
from ensembler.blending.spec import BlendSpec
from ensembler.blends.blend import blend_run
from ensembler.blends.composed import blend_label, stage_spec
from ensembler.blends.current import is_current
from ensembler.blends.keep import BlendOutcome
from ensembler.blends.partial import PartialBlend, submit_partial_blend
from ensembler.blends.recipe_blend import (
    keep_blend_made_by_hand,
    note_recipe_blend,
    submit_recipe_blend,
)
from ensembler.deadline import Deadline
from ensembler.evaluation.evaluate import evaluate
from ensembler.evaluation.scores import Evaluation
from ensembler.files import write_json
from ensembler.machine.execution import DEFAULT_EXECUTION, Execution
from ensembler.members.executor import Failure, LeftOut
from ensembler.members.option_claims import check_nobody_trains_otherwise
from ensembler.members.prices import PriceList, Seconds
from ensembler.members.schedule import KFoldResult
from ensembler.members.short_folds import has_finished_folds, short_members
from ensembler.members.tta_predict import predict_missing_views
from ensembler.metrics.registry import fits
from ensembler.pipeline.check import check_execution, check_recipe
from ensembler.pipeline.plan import Plan
from ensembler.pipeline.time_limit import TimeToEnd, check_deadline
from ensembler.pipeline.train import fix_epochs, train_members
from ensembler.predictions.store import RunStore
from ensembler.progress import QUIET, FoldCost, FoldTask, Progress
from ensembler.recipe.load import Recipe
from ensembler.recipe.members import PlannedMember
from ensembler.recipe.own_code import introduce_code_of
from ensembler.reporting.submitted import is_as_recorded
from ensembler.stop import Stop, StopReason
from ensembler.workspace.workspace import Workspace, open_workspace


@dataclass(frozen=True)
class RunResult:
    """What `ens run` did.

    `stopped` says why it ended before everything was done: "deadline" when a step was left out or
    cut short for want of time. `left_out` are the folds for which there was none, `seconds` what
    all took; `has_folds` says whether any is finished.
    """

    run: str
    folder: Path
    trained: int
    failures: tuple[Failure, ...]
    blend: str | None
    new_blend: BlendOutcome | None
    evaluation: Evaluation | None
    submission: Path | None
    stopped: StopReason | None = None
    left_out: tuple[LeftOut, ...] = ()
    seconds: float = 0.0
    has_folds: bool = True


def run_recipe(
    recipe: Recipe,
    artifacts: Path,
    *,
    execution: Execution = DEFAULT_EXECUTION,
    members: Sequence[str] | None = None,
    folds: Sequence[int] | None = None,
    progress: Progress = QUIET,
    stop: Stop | None = None,
    deadline: Deadline | None = None,
) -> RunResult:
    """Train, predict, blend and submit whatever is missing; a second call does nothing.

    A member that fails leaves the others alone; the failures are in the result. With a `deadline`
    what cannot end in time is left out (docs/deadline.md); RequestError when there is no time for
    the least submission. `stop` ends the job early.
    """
    began, stop = time.monotonic(), Stop() if stop is None else stop
    introduce_code_of(recipe, progress)
    check_recipe(recipe)
    if recipe.spec.has_networks:
        check_execution(execution, progress)
    plan = None
    if deadline is not None:
        selection: dict[str, Any] = {"members": members, "folds": folds}
        plan = check_deadline(
            recipe, artifacts, deadline, execution, progress=progress, **selection
        )
    workspace = open_workspace(
        recipe, artifacts, progress, check=check_nobody_trains_otherwise
    )
    _audit(workspace)
    if plan is not None:
        members = _without(workspace, members, plan.skipped)
    workspace = fix_epochs(workspace, members, {} if plan is None else plan.epochs)
    prices = PriceList.of(workspace, execution)
    views = Seconds() if plan is None else plan.views
    end = TimeToEnd(deadline, views + prices.blending(workspace))
    end.keep_back(stop)
    with stop.heard():
        training = train_members(
            workspace, execution=execution, members=members, folds=folds, stop=stop
        )
    has_time = end.has_time
    name, outcome = None, None
    if has_time:
        predict_missing_views(workspace, execution)
    store = RunStore(workspace.store.folder)
    is_all_there = training.stopped is None and not views.expected
    has_time = has_time or (is_all_there and _is_blended(workspace, store))
    blending_since = time.monotonic()
    if has_time:
        partial = _blend_partial(workspace, store, training)
        name, outcome = _blend(workspace, store, partial)
    done = bool(store.complete_members) and has_time
    evaluation = evaluate(store) if done else None
    if outcome is not None:
        prices.add_blend(workspace, time.monotonic() - blending_since)
    is_partial = not has_time or (plan is not None and bool(plan.skipped))
    return RunResult(
        run=store.name,
        folder=store.folder,
        trained=len(training.trained),
        failures=training.failures,
        blend=name,
        new_blend=outcome,
        evaluation=evaluation,
        submission=store.submission_path if is_as_recorded(store) else None,
        stopped=training.stopped or ("deadline" if is_partial else None),
        left_out=(*training.left_out, *_skipped(plan)),
        seconds=time.monotonic() - began,
        has_folds=has_finished_folds(store) or bool(short_members(store)),
    )


def _without(
    workspace: Workspace, members: Sequence[str] | None, skipped: Sequence[str]
) -> Sequence[str] | None:
    """The selection of members less the recipe entries that are `skipped`."""
    if not skipped:
        return members
    selected = workspace.select(members)
    return [member.name for member in selected if member.entry not in skipped]


def _skipped(plan: Plan | None) -> list[LeftOut]:
    """The folds of members that are not trained, so that others are for longer."""
    if plan is None:
        return []
    folds = [step for step in plan.left_out if step.kind == "fold"]
    return [
        LeftOut(FoldTask(str(step.member), step.fold or 0, FoldCost(0)), step.reason)
        for step in folds
        if step.entry in plan.skipped
    ]


def _audit(workspace: Workspace) -> None:
    """Audit the data once for a run, keep the findings, and warn of what inflates scores."""
    path = workspace.store.folder / "audit.json"
    if path.is_file():
        return
    audit = audit_samples(
        workspace.spec, workspace.samples, workspace.artifacts, workspace.progress
    )
    write_json(path, audit.to_json())
    for finding in audit.findings:
        if finding.severity != "note" and finding.code in INFLATES_SCORES:
            workspace.progress.warn(f"{finding.code}: {finding.message}; {finding.fix}")


def _is_blended(workspace: Workspace, store: RunStore) -> bool:
    """Whether the label's blend is there as it would be made now, so that it takes no time."""
    label = workspace.samples.targets[0]
    members = _wanted(workspace, store, (label, *_tasks(workspace)))
    if not members:
        return False
    views = _views(workspace, store, members)
    return is_current(store, workspace.spec.blend, members, views)


def _tasks(workspace: Workspace) -> tuple[str, ...]:
    """The tasks whose predictions make the label together; none of a label by itself."""
    composition = workspace.samples.composition
    return () if composition is None else composition.tasks


def _blend(
    workspace: Workspace, store: RunStore, partial: PartialBlend | None
) -> tuple[str | None, BlendOutcome | None]:
    """Blend the label, which is submitted, and each further target that is no task of it."""
    label, *others = workspace.samples.targets
    tasks = _tasks(workspace)
    made = _blend_label(workspace, store, label, tasks, partial)
    for target in others:
        if target not in tasks and (members := _wanted(workspace, store, (target,))):
            spec = _spec_beside(workspace, store, target, members)
            views = _views(workspace, store, members)
            if not is_current(store, spec, members, views):
                _warn(
                    workspace,
                    blend_run(store, spec, members=members, target=target, views=views),
                )
    return made


def _blend_partial(
    workspace: Workspace, store: RunStore, training: KFoldResult
) -> PartialBlend | None:
    """Where a run was stopped, submit a blend of what there is, of members with fewer folds, too.

    Return it when it is better than what was submitted.
    """
    label = workspace.samples.targets[0]
    if training.stopped is None or store.composition is not None:
        return None
    members = [m.name for m in workspace.members if m.in_pool and not m.parts]
    members += store.joined_members
    found = submit_partial_blend(
        store,
        workspace.spec.blend,
        workspace.spec.submission,
        target=label,
        members=members,
        progress=workspace.progress,
    )
    if found is not None:
        workspace.progress.note(
            f"submitted a blend ({found.result.method}) of {len(found.members)} members, "
            f"fitted on the rows of {found.level} of their folds"
        )
    return found


def _spec_beside(
    workspace: Workspace, store: RunStore, target: str, members: Sequence[str]
) -> BlendSpec:
    """The recipe's blend for a target beside the label.

    A metric that does not fit it gives way to log loss.
    """
    asked = workspace.spec.blend
    spec = stage_spec(asked, f"{asked.blend_name}.{target}", members)
    if fits(asked.metric, of=store.kind(target)):
        return spec.model_copy(update={"calibrate": asked.calibrate})
    fitting = {
        "metric": "log_loss",
        "calibrate": "none" if asked.calibrate == "biases" else asked.calibrate,
    }
    return spec.model_copy(update=fitting)


def _blend_label(
    workspace: Workspace,
    store: RunStore,
    label: str,
    tasks: Sequence[str],
    partial: PartialBlend | None,
) -> tuple[str | None, BlendOutcome | None]:
    spec, members = workspace.spec.blend, _wanted(workspace, store, (label, *tasks))
    if not members:
        return None, None
    views = _views(workspace, store, members)
    name, submission = spec.blend_name, workspace.spec.submission
    outcome = None
    if not is_current(store, spec, members, views):
        progress = workspace.progress
        keep_blend_made_by_hand(store, name, submission, progress)
        outcome = blend_label(store, spec, members=members, views=views, progress=progress)
        _warn(workspace, outcome)
    note_recipe_blend(store, name)
    submit_recipe_blend(
        store,
        name,
        submission,
        metric=spec.metric,
        is_new=outcome is not None,
        partial=partial,
        progress=workspace.progress,
    )
    return name, outcome


def _wanted(workspace: Workspace, store: RunStore, targets: Sequence[str]) -> list[str]:
    """The complete members that the recipe's blend takes for any of `targets`.

    Those that joined the run, as trials do, count as named.
    """
    named, label = workspace.spec.blend.members, workspace.samples.targets[0]
    fitting = [
        member
        for member in workspace.members
        if set(targets) & set(member.base.targets or (label,))
    ]
    wanted = [
        member.name
        for member in fitting
        if (
            member.in_pool
            if named is None
            else member.name in named or _is_named(member, named)
        )
    ]
    joined = [
        name
        for name in store.joined_members
        if set(targets) & set(store.member(name).targets) and name in (named or [name])
    ]
    complete = store.complete_members
    stands_for = store.lock.part_of
    # the refit of a member predicts in its place, as soon as it is there
    with_refits = [
        stands_for[name]
        if name in stands_for and _is_refit_of(store, stands_for[name], name)
        else name
        for name in wanted
    ]
    return [*(name for name in with_refits if name in complete), *joined]


def _is_refit_of(store: RunStore, name: str, of: str) -> bool:
    return name in store.complete_members and store.member(name).record.refit_of == of


def _warn(workspace: Workspace, outcome: BlendOutcome) -> None:
    for warning in outcome.result.warnings:
        workspace.progress.warn(str(warning["message"]))


def _is_named(member: PlannedMember, names: Sequence[str]) -> bool:
    """Whether a member of the pool is meant by the name of its recipe entry."""
    return member.in_pool and member.is_called(names)


def _views(
    workspace: Workspace, store: RunStore, members: Sequence[str]
) -> tuple[str, ...] | None:
    """The recipe's views when a member has more of them; None for all there are.

    Those that a member of somebody else lacks are left out; where that leaves none, each member
    counts with its own.
    """
    from ensembler.inference.views import expand_views

    wanted = workspace.spec.blend.views or tuple(
        view.name for view in expand_views(workspace.spec.views)
    )
    without_images = {m.name for m in workspace.members if not m.sees_images}
    records = [store.member(name).record for name in members if name not in without_images]
    own = [record for record in records if record.origin != "pulled"]
    if all(set(record.views) == set(wanted) for record in own):
        return None
    pulled = [record for record in records if record.origin == "pulled"]
    return tuple(v for v in wanted if all(v in r.views for r in pulled)) or None
