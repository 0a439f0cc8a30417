"""`ens distill`: one small member that learns from a blend of the others."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from ensembler.blending.judging.comparison import Gain
from ensembler.blending.spec import BlendSpec
from ensembler.blends.apply import NewProbs, ViewMerging, members_below, merging_below
from ensembler.blends.blend import blend_run
from ensembler.blends.origin import metric_of
from ensembler.blends.recipe_blend import gain_over_blend
from ensembler.blends.submit import default_blend
from ensembler.blends.teacher import BlendTeacher, Taught, check_teacher_views
from ensembler.data.pixels import Pixels, prepare_pixels
from ensembler.data.samples import read_unlabelled
from ensembler.errors import RequestError, TrainingError
from ensembler.files import check_name, claim
from ensembler.machine.execution import DEFAULT_EXECUTION, Execution
from ensembler.members.complete import complete_member, drop_stale
from ensembler.members.executor import Failure
from ensembler.members.fold import FoldTrainer
from ensembler.members.option_claims import claim_options
from ensembler.members.plan import MemberPlan
from ensembler.members.student import Lessons, StudentPlan
from ensembler.members.training import Training
from ensembler.members.tta_predict import ViewPredictor
from ensembler.pipeline.check import check_recipe
from ensembler.pipeline.predict_new import member_probs
from ensembler.predictions.finished_folds import read_finished_fold
from ensembler.predictions.records import write_record
from ensembler.predictions.store import RunStore, cache_folder
from ensembler.recipe.load import Recipe
from ensembler.recipe.members import PlannedMember
from ensembler.recipe.own_code import code_named_by, introduce_code
from ensembler.stop import Stop
from ensembler.targets.label_sets import is_known
from ensembler.training.spec import MemberSpec
from ensembler.workspace.workspace import Workspace

# of a member of the recipe, what its student takes over
_SHARED = (
    "size",
    "epochs",
    "batch_size",
    "opt",
    "lr",
    "weight_decay",
    "momentum",
    "sched",
    "warmup_epochs",
    "amp",
    "pretrained",
)


@dataclass(frozen=True)
class Lesson:
    """What a student is and how it is taught.

    `options` are those of a member in a recipe; `data` are further images without labels,
    `with_test` takes the unlabelled test rows, too, `teacher_views` the teacher's answer for each
    view and not for the image. `temperature` softens both sides, `hard` is the labels' share. With
    `own_fold` train rows have their labels alone, and the networks of a fold teach that fold's
    student images without labels: its scores out of fold are honest.
    """

    backbone: str
    name: str = "student"
    blend: str | None = None
    options: Mapping[str, Any] | None = None
    data: Path | None = None
    with_test: bool = False
    teacher_views: bool = False
    temperature: float = 1.0
    hard: float = 0.1
    own_fold: bool = False

    def check(self) -> None:
        """Raise RequestError for options that cannot go together."""
        if not self.own_fold:
            return
        if self.data is None and not self.with_test:
            raise RequestError(
                "with --own-fold the teacher speaks of images without labels alone; name some with "
                "--data, or take the test rows with --with-test"
            )
        if self.teacher_views:
            raise RequestError(
                "--own-fold takes the teacher's answers to images as they are; leave out "
                "--teacher-views"
            )


@dataclass(frozen=True)
class DistilledStudent:
    """A student in the store, beside its teacher.

    `gain` is by how much it is better than the teacher, out of fold and paired; `rows` counts the
    images, `seconds` were spent in training.
    """

    run: str
    member: str
    teacher: str
    metric: str
    rows: dict[str, int]
    scores: dict[str, Any]
    gain: Gain | None
    seconds: float
    flattered: bool = True

    @property
    def words(self) -> str:
        """What came of it, in two sentences."""
        own = (self.scores.get("oof") or {}).get(self.metric)
        score = "" if own is None else f", {self.metric} {own:.4f} out of fold"
        said = f"Member {self.member!r} has learned from blend {self.teacher!r}{score}."
        if self.gain is None:
            return said
        gain = self.gain
        against = (
            f"{said} Against its teacher that is {gain.value:+.4f} ({gain.low:+.4f} to "
            f"{gain.high:+.4f}; positive is better)"
        )
        if not self.flattered:
            return f"{against}."
        return (
            f"{against}, and flattered: what taught it has seen the labels it is scored by. A "
            "holdout tells what it is worth."
        )

    def to_json(self) -> dict[str, Any]:
        """As the object that `ens distill --json` prints."""
        return {
            "run": self.run,
            "member": self.member,
            "blend": self.member,
            "teacher": self.teacher,
            "metric": self.metric,
            "rows": self.rows,
            "scores": self.scores,
            "gain": None if self.gain is None else self.gain.to_json(),
            "seconds": self.seconds,
            "flattered": self.flattered,
        }


def distill(
    workspace: Workspace, lesson: Lesson, *, execution: Execution = DEFAULT_EXECUTION
) -> DistilledStudent:
    """Train a student of a blend, fold by fold like any member; a blend of its own is kept, too.

    On a train row the teacher is the blend of predictions out of fold, fitted without the student's
    fold; on other rows it is the blend of all networks. With `lesson.own_fold` labels teach the
    train rows, and on other rows the teacher is the blend of the fold's own networks. What is
    finished is not done again.
    """
    lesson.check()
    store = workspace.store
    teacher = lesson.blend or _teacher_of(store, lesson.name)
    BlendTeacher(store, teacher).check()
    metric = metric_of(store.blend(teacher))
    spec = _student_spec(workspace, lesson, store.blend(teacher).record.target)
    planned = PlannedMember(
        lesson.name, spec, "fold", lesson.name, lesson.name, spec.primary, spec
    )
    recipe = _recipe_of_student(workspace, planned)
    introduce_code(code_named_by(recipe.spec), workspace.progress, [Path.cwd()])
    check_recipe(recipe)
    _note_student(store, planned.name)
    at_school = replace(workspace, recipe=recipe, store=RunStore(store.folder))
    lessons = _lessons(
        workspace, MemberPlan(at_school, planned), lesson, teacher, execution
    )
    _train(StudentPlan(at_school, planned, lessons), execution)
    store = RunStore(store.folder)  # as it is now: its lock names the student
    member = store.member(planned.name)
    alone = BlendSpec(
        method="single", members=(planned.name,), name=planned.name, metric=metric
    )
    blend_run(store, alone, target=member.record.target, common_rows=True)
    return DistilledStudent(
        store.name,
        planned.name,
        teacher,
        metric,
        _counts(store, lessons),
        dict(member.record.scores),
        gain_over_blend(store, planned.name, teacher, metric),
        member.record.seconds or 0.0,
        member.record.flattered,
    )


def _teacher_of(store: RunStore, student: str) -> str:
    """The blend last submitted, or the only one, unless it is the student's own."""
    others = [name for name in store.blends if name != student]
    submitted = default_blend(store) if len(others) != 1 else others[0]
    if submitted == student:
        raise RequestError(
            f"blend {student!r} is the student itself; say which blend teaches with --blend: "
            f"{', '.join(others)}"
        )
    return submitted


def _student_spec(workspace: Workspace, lesson: Lesson, target: str) -> MemberSpec:
    """The student's options: those given, else those of the recipe's first member of our loop."""
    name = check_name("member", lesson.name)
    if any(member.is_called([name]) for member in workspace.members):
        raise RequestError(
            f"the recipe of run {workspace.store.name!r} has a member {name!r}; give the student "
            "another --name"
        )
    store = RunStore(workspace.store.folder)
    if name in store.complete_members and name not in store.lock.students:
        raise RequestError(
            f"run {store.name!r} has a member {name!r} that is no student; give the student "
            "another --name"
        )
    like = next(
        (s for s in workspace.spec.members.values() if isinstance(s, MemberSpec)), None
    )
    shared = {} if like is None else like.model_dump(include=set(_SHARED))
    options = {
        **shared,
        "backbone": lesson.backbone,
        "target": target,
        **({"augment": "none"} if lesson.teacher_views else {}),
        **(lesson.options or {}),
    }
    try:
        spec = MemberSpec.model_validate(options)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        message = first["ctx"]["error"] if first["type"] == "value_error" else first["msg"]
        raise RequestError(f"student {where}: {message}".replace(" :", ":")) from error
    return _checked(spec)


def _checked(spec: MemberSpec) -> MemberSpec:
    refused = {
        "mixup and cutmix": spec.mixes,
        "sampler": spec.sampler != "none",
        "seeds": spec.seeds > 1,
        "also": bool(spec.also),
        "snapshots": spec.snapshots != "none",
    }
    for option, is_asked in refused.items():
        if is_asked:
            raise RequestError(f"a student takes no {option}; leave it out")
    return spec


def _recipe_of_student(workspace: Workspace, planned: PlannedMember) -> Recipe:
    """The run's recipe with the student as its only member."""
    spec = workspace.spec.model_copy(update={"members": {planned.name: planned.spec}})
    return Recipe(spec, workspace.recipe.path)


def _note_student(store: RunStore, name: str) -> None:
    """Note in `recipe.lock.json` that no blend takes this member unless it is told to."""
    with claim(store.lock_path, wait=True):
        lock = RunStore(store.folder).lock
        if name not in lock.students:
            noted = lock.model_copy(update={"students": (*lock.students, name)})
            write_record(store.recipe_lock_path, noted)


def _lessons(
    workspace: Workspace,
    plan: MemberPlan,
    lesson: Lesson,
    teacher: str,
    execution: Execution,
) -> Lessons:
    """What the student of each fold is taught, under each view."""
    from ensembler.inference.views import expand_views

    store = workspace.store
    views = expand_views(workspace.spec.views) if lesson.teacher_views else ()
    test_rows = np.empty(0, np.int64)
    if lesson.with_test:
        test_rows = _unlabelled_test(store, teacher)
    if lesson.own_fold and lesson.data is None and not len(test_rows):
        raise RequestError(
            f"run {store.name!r} has no test row without a label, so with --own-fold a teacher has "
            "nothing to say; name images with --data"
        )
    check_teacher_views(store, teacher, [view.name for view in views])
    taught: dict[tuple[int, str | None], Taught] = {}
    names: list[str | None] = [None]
    if views:
        names = [view.name for view in views]
    new_by_view = _new_probs(workspace, lesson, teacher, names, execution)
    for name, new in zip(names, new_by_view, strict=True):
        blend = BlendTeacher(store, teacher, None if name is None else (name,))
        if lesson.own_fold:
            blend.check_by_fold(plan.member.fold_column)
        for fold in range(plan.rows.n_folds):
            is_left_out = plan.rows.fold_of_row == fold
            taught[fold, name] = (
                blend.of_fold(fold, is_left_out, new)
                if lesson.own_fold
                else blend.without(is_left_out, new)
            )
    described = {
        "blend": teacher,
        "temperature": lesson.temperature,
        "hard": lesson.hard,
        "views": [view.name for view in views],
        "taught": _digest(taught),
    }
    if (
        lesson.own_fold
    ):  # absent otherwise, so that students of earlier versions stay current
        described["own_fold"] = True
    return Lessons(
        taught,
        views,
        test_rows,
        _new_pixels(workspace, plan, lesson),
        lesson.temperature,
        lesson.hard,
        {**described, "test_rows": lesson.with_test},
        lesson.own_fold,
    )


def _digest(taught: Mapping[tuple[int, str | None], Taught]) -> str:
    parts = hashlib.sha256()
    for key in sorted(taught, key=str):
        for probs in (taught[key].train, taught[key].test, taught[key].new):
            parts.update(np.ascontiguousarray(probs).tobytes())
    return parts.hexdigest()[:16]


def _new_probs(
    workspace: Workspace,
    lesson: Lesson,
    teacher: str,
    views: Sequence[str | None],
    execution: Execution,
) -> list[NewProbs | None]:
    """What each member of the teacher says of the unlabelled images under each view.

    The view None merges as the teacher does. None without any images.
    """
    if lesson.data is None:
        return [None] * len(views)
    store = workspace.store
    merging = merging_below(store, teacher)
    mergings = [merging if view is None else _by_one_view(merging, view) for view in views]
    names = members_below(store, teacher)
    predictor = ViewPredictor(workspace, execution)
    return [*member_probs(workspace, lesson.data, names, predictor, mergings)[1]]


def _by_one_view(
    merging: Mapping[tuple[str, str], ViewMerging], view: str
) -> dict[tuple[str, str], ViewMerging]:
    return {key: ViewMerging(by.how, (view,)) for key, by in merging.items()}


def _new_pixels(workspace: Workspace, plan: MemberPlan, lesson: Lesson) -> Pixels | None:
    if lesson.data is None:
        return None
    images = read_unlabelled(lesson.data, workspace.spec.data).images
    cache = cache_folder(workspace.artifacts)
    return prepare_pixels(images, plan.input, cache, workspace.progress)


def _unlabelled_test(store: RunStore, teacher: str) -> NDArray[np.int64]:
    """Positions of the test rows without a label: on a holdout nothing is ever fitted."""
    record = store.blend(teacher).record
    labels = store.labels(record.target, "test", record.classes)
    return np.flatnonzero(~is_known(labels)).astype(np.int64)


def _train(plan: StudentPlan, execution: Execution) -> None:
    """Train the folds that are missing, one after the other, and complete the member."""
    training = Training(plan.member.training, (plan,), (plan,))
    trainer = FoldTrainer(plan.workspace, {training.name: training}, execution, Stop())
    with claim_options([training]):
        drop_stale(plan)
        tasks = training.missing_tasks(None)
        plan.workspace.progress.plan(tasks, 1)
        for task in tasks:
            result = trainer.finish(task, wait=True)
            if isinstance(result, Failure):
                raise TrainingError(result.message)
        if not plan.on_disk.is_complete:
            folds = range(plan.rows.n_folds)
            found = [read_finished_fold(plan.on_disk.folder, fold) for fold in folds]
            complete_member(plan, found)
        training.tidy()
    training.remove_empty_folders()


def _counts(store: RunStore, lessons: Lessons) -> dict[str, int]:
    """How many images there are to learn from, by where they come from."""
    n_new = 0 if lessons.new is None else lessons.new.shape[0]
    return {
        "train": len(store.samples.train),
        "test": len(lessons.test_rows),
        "unlabelled": int(n_new),
        "views": max(1, len(lessons.views)),
    }
