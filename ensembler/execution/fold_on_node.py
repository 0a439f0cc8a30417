"""A fold on a node of a cluster: in the run's folder where it is seen, else in a copy of the run.

The copy has what decides the fold: recipe, lock and samples. It stays until the job is over, so
that a fold whose process died resumes on the node where it began.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ensembler.errors import EnsemblerError
from ensembler.execution.orders import Answer, Look, Order
from ensembler.files import write_bytes
from ensembler.machine.environment import versions
from ensembler.machine.execution import Execution
from ensembler.members.executor import Failure, FinishedTask, FoldResult, LeftOut
from ensembler.members.fold import FoldTrainer
from ensembler.predictions.finished_folds import fold_path, weights_path
from ensembler.progress import FoldTask, Message, Progress, ProgressForwarder
from ensembler.stop import Stop, Stopped

if TYPE_CHECKING:
    from ensembler.members.training import Training
    from ensembler.workspace.workspace import Workspace

Contents = dict[str, dict[str, bytes]]  # of files, by member and name


def look(asked: Look) -> dict[str, Any]:
    """What a node says of itself: versions, whether it sees the run, what it cannot read."""
    problem = None
    for path in asked.images:
        try:
            Path(path).read_bytes()
        except OSError as error:
            problem = f"cannot read image {path} ({error.strerror})"
    probe = Path(asked.probe)
    sees_run = probe.is_file() and probe.read_text() == asked.token
    return {"versions": versions(), "sees_run": sees_run, "problem": problem}


def do_fold(
    order: Order, send: Callable[[Message], None], is_asked: Callable[[], bool]
) -> tuple[Answer, Contents]:
    """Train a fold and predict with it; what became of it, and its files where the run is unseen.

    `is_asked` says whether the job should end.
    """
    import torch

    torch.set_num_threads(order.threads)
    stop = Stop(order.seconds_left).for_other_process(is_asked)
    workspace = _workspace(order, ProgressForwarder(send))
    (training,) = _trainings(workspace, order)
    execution = Execution(order.device, order.workers, engine=order.engine)
    is_own = order.folder is None
    trainer = FoldTrainer(
        workspace, {training.name: training}, execution, stop, judges_time=not is_own
    )
    task = training.task(order.fold)
    try:
        result = trainer.finish(task, wait=is_own)
    except Stopped as error:
        result = LeftOut(task, str(error))
    if result is None and is_own:
        result = _finished_before(training, task)
    answer = _answer(result)
    return answer, _contents(training, order) if is_own and _is_finished(result) else {}


def forget(run: str, files: dict[str, str]) -> None:
    """Remove a node's copy of a run."""
    shutil.rmtree(_own_artifacts(run, files), ignore_errors=True)


def _is_finished(result: FoldResult | None) -> bool:
    return isinstance(result, FinishedTask)


def _finished_before(training: Training, task: FoldTask) -> FinishedTask | None:
    """A fold that another attempt has finished on this node."""
    if training.unfinished(task.fold):
        return None
    return FinishedTask(task, was_trained=True)


def _answer(result: FoldResult | None) -> Answer:
    match result:
        case FinishedTask(_, was_trained, is_short):
            return Answer(outcome="finished", was_trained=was_trained, is_short=is_short)
        case LeftOut(_, reason):
            return Answer(outcome="left_out", message=reason)
        case Failure(_, fold, message):
            return Answer(outcome="failed", fold=fold, message=message)
        case None:
            return Answer(outcome="nothing")


def _contents(training: Training, order: Order) -> Contents:
    """The files of a finished fold, of each member of its training that was asked for."""
    found: Contents = {}
    for plan in training.plans:
        folder = plan.on_disk.folder
        paths = (weights_path(folder, order.fold), fold_path(folder, order.fold))
        found[plan.member.name] = {path.name: path.read_bytes() for path in paths}
    return found


def _trainings(workspace: Workspace, order: Order) -> Sequence[Training]:
    from ensembler.members.complete import drop_stale
    from ensembler.members.schedule import trainings_of

    selected = [member for member in workspace.members if member.name in order.members]
    trainings = trainings_of(workspace, selected)
    if order.folder is None:
        for plan in trainings[0].plans:
            drop_stale(plan)
    return trainings


def _workspace(order: Order, progress: Progress) -> Workspace:
    from dataclasses import replace

    from ensembler.recipe.load import Recipe
    from ensembler.recipe.own_code import code_named_by, introduce_code
    from ensembler.workspace.workspace import open_workspace

    folder = Path(order.folder) if order.folder else _own_copy(order)
    recipe = Recipe.load_recorded(folder / "recipe.yaml")
    recipe = replace(recipe, spec=recipe.spec.model_copy(update={"name": folder.name}))
    introduce_code(code_named_by(recipe.spec), Progress(), [Path(c) for c in order.code])
    opened = open_workspace(recipe, folder.parent)
    return replace(opened, progress=progress)


def _own_copy(order: Order) -> Path:
    """The folder of the run on this node, with the files that decide what is trained."""
    folder = _own_artifacts(order.run, order.files) / order.run
    for name, content in order.files.items():
        path = folder / name
        if not path.is_file() or path.read_text(encoding="utf-8") != content:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(path, content.encode())
    return folder


def _own_artifacts(run: str, files: dict[str, str]) -> Path:
    """Where copies of a run with these samples lie, in a folder that nobody else may write to."""
    own = Path(tempfile.gettempdir()) / f"ens-{os.getuid()}"
    own.mkdir(mode=0o700, exist_ok=True)
    found = own.lstat()
    is_ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
    if not is_ours or found.st_mode & 0o022:
        raise EnsemblerError(f"{own} belongs to somebody else, or others may write to it")
    samples = files.get("samples.csv", "") + files.get("recipe.yaml", "")
    return own / hashlib.sha256(f"{run}\n{samples}".encode()).hexdigest()[:16]
