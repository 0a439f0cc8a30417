"""`ens run`: everything a recipe asks for that is not there yet, in order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ensembler.audit.audit import audit_samples
from ensembler.audit.findings import INFLATES_SCORES
from ensembler.blending.spec import BlendSpec
from ensembler.blends.blend import blend_run
from ensembler.blends.composed import blend_label, stage_spec
from ensembler.blends.current import is_current
from ensembler.blends.keep import BlendOutcome
from ensembler.blends.recipe_blend import (
    keep_blend_made_by_hand,
    note_recipe_blend,
    submit_recipe_blend,
)
from ensembler.evaluation.evaluate import evaluate
from ensembler.evaluation.scores import Evaluation
from ensembler.files import write_json
from ensembler.machine.execution import DEFAULT_EXECUTION, Execution
from ensembler.members.executor import Failure
from ensembler.members.option_claims import check_nobody_trains_otherwise
from ensembler.members.tta_predict import predict_missing_views
from ensembler.metrics.registry import fits
from ensembler.pipeline.check import check_device, check_recipe
from ensembler.pipeline.train import train_members
from ensembler.predictions.store import RunStore
from ensembler.progress import QUIET, Progress
from ensembler.recipe.load import Recipe
from ensembler.recipe.members import PlannedMember
from ensembler.recipe.own_code import introduce_code_of
from ensembler.reporting.submitted import is_as_recorded
from ensembler.stop import Stop
from ensembler.workspace.workspace import Workspace, open_workspace


@dataclass(frozen=True)
class RunResult:
    """What `ens run` did."""

    run: str
    folder: Path
    trained: int
    failures: tuple[Failure, ...]
    blend: str | None
    new_blend: BlendOutcome | None
    evaluation: Evaluation | None
    submission: Path | None


def run_recipe(
    recipe: Recipe,
    artifacts: Path,
    *,
    execution: Execution = DEFAULT_EXECUTION,
    members: Sequence[str] | None = None,
    folds: Sequence[int] | None = None,
    progress: Progress = QUIET,
    stop: Stop | None = None,
) -> RunResult:
    """Train, predict, blend and submit whatever is missing; a second call does nothing.

    A member that fails leaves the others alone; the failures are in the result.
    """
    introduce_code_of(recipe, progress)
    check_recipe(recipe)
    check_device(execution.device, progress)
    workspace = open_workspace(
        recipe, artifacts, progress, check=check_nobody_trains_otherwise
    )
    _audit(workspace)
    training = train_members(
        workspace, execution=execution, members=members, folds=folds, stop=stop
    )
    predict_missing_views(workspace, execution)
    store = RunStore(workspace.store.folder)
    name, outcome = _blend(workspace, store)
    done = bool(store.complete_members)
    return RunResult(
        run=store.name,
        folder=store.folder,
        trained=len(training.trained),
        failures=training.failures,
        blend=name,
        new_blend=outcome,
        evaluation=evaluate(store) if done else None,
        submission=store.submission_path if is_as_recorded(store) else None,
    )


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


def _blend(workspace: Workspace, store: RunStore) -> tuple[str | None, BlendOutcome | None]:
    """Blend the label, which is submitted, and each further target that is no task of it."""
    label, *others = workspace.samples.targets
    tasks = (
        () if workspace.samples.composition is None else workspace.samples.composition.tasks
    )
    made = _blend_label(workspace, store, label, tasks)
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
    workspace: Workspace, store: RunStore, label: str, tasks: Sequence[str]
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
        progress=workspace.progress,
    )
    return name, outcome


def _wanted(workspace: Workspace, store: RunStore, targets: Sequence[str]) -> list[str]:
    """The complete members that the recipe's blend takes for any of `targets`."""
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
    return [name for name in wanted if name in store.complete_members]


def _warn(workspace: Workspace, outcome: BlendOutcome) -> None:
    for warning in outcome.result.warnings:
        workspace.progress.warn(str(warning["message"]))


def _is_named(member: PlannedMember, names: Sequence[str]) -> bool:
    """Whether a member of the pool is meant by the name of its recipe entry."""
    return member.in_pool and member.is_called(names)


def _views(
    workspace: Workspace, store: RunStore, members: Sequence[str]
) -> tuple[str, ...] | None:
    """The recipe's views when a member has more of them; None for all there are."""
    from ensembler.inference.views import expand_views

    wanted = workspace.spec.blend.views or tuple(
        view.name for view in expand_views(workspace.spec.views)
    )
    return (
        wanted
        if any(set(store.member(m).record.views) != set(wanted) for m in members)
        else None
    )
