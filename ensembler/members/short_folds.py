"""Folds that were trained for fewer epochs than the recipe says, for want of time.

They are kept as members of their own (`cnn@short`), never among the folds of the member itself,
and submitted only while there is nothing else.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from pydantic import ValidationError

from ensembler.members.plan import MemberPlan
from ensembler.members.prices import PriceList, workload_of
from ensembler.members.training import Training
from ensembler.predictions.finished_folds import (
    finished_folds,
    fold_path,
    read_finished_fold,
    targets_of_fold,
)
from ensembler.predictions.store import RunStore
from ensembler.progress import FoldTask
from ensembler.recipe.members import TrainedSpec
from ensembler.training.spec import WITHOUT_EPOCHS, EnsembleSpec, MemberSpec

SUFFIX = "@short"
_SAFETY = 1.25  # by how much an epoch may take longer than is expected
# What has no meaning, or another one, in a training that is cut short.
_DROPPED = {
    "also": (),
    "snapshots": "none",
    "cycles": 3,
    "swa_lr": None,
    "val_interval": None,
    "seeds": 1,
}


def is_short(name: str) -> bool:
    """Whether a member's name is that of folds that were cut short."""
    return name.endswith(SUFFIX)


def short_members(store: RunStore) -> list[str]:
    """The members of folds that were cut short."""
    return [name for name in store.begun_members if is_short(name)]


def has_finished_folds(store: RunStore) -> bool:
    """Whether folds are finished, in full, that can be submitted by themselves.

    They predict the label, or together all tasks that make it.
    """
    label = store.samples.targets[0]
    tasks = () if store.composition is None else store.composition.tasks
    predicted: set[str] = set()
    for targets in _finished_targets(store):
        predicted.update(targets)
        if label in predicted or (tasks and predicted.issuperset(tasks)):
            return True
    return False


def _finished_targets(store: RunStore) -> Iterator[tuple[str, ...]]:
    """The targets of each complete member, and of one finished fold of each other one."""
    complete = store.complete_members
    for name in complete:
        yield store.member(name).targets
    n_folds = int(store.samples.table["fold"].max()) + 1
    for name in store.begun_members:
        folder = store.member_folder(name)
        folds = [] if is_short(name) else finished_folds(folder, n_folds)
        if folds and name not in complete:
            yield targets_of_fold(folder, folds[0])


def discard_short_members(store: RunStore) -> None:
    """Remove folds that were cut short, once there are others."""
    for name in short_members(store):
        shutil.rmtree(store.member_folder(name), ignore_errors=True)


def shortened(training: Training, epochs: int) -> Training | None:
    """The same training with so many epochs, as one of its own; None where it cannot be made."""
    plan = training.all_plans[0]
    spec = shortened_spec(plan.member.spec, epochs)
    if spec is None:
        return None
    name = f"{training.name}{SUFFIX}"
    variant = spec.primary if isinstance(spec, MemberSpec) else plan.member.variant
    member = replace(
        plan.member, name=name, training=name, spec=spec, base=spec, variant=variant
    )
    alone = (MemberPlan(plan.workspace, member),)
    return Training(name, alone, alone)


def shortest_fold(
    trainings: Sequence[Training],
    tasks: Sequence[FoldTask],
    prices: PriceList,
    seconds: float,
) -> tuple[Training, FoldTask] | None:
    """A fold of the smallest member with as many epochs as end within `seconds`, at least one.

    None when some fold ends in full, or one with as many epochs is there.
    """
    by_name = {training.name: training for training in trainings}
    submitted = tasks_of_submission(tasks, by_name)
    if not submitted:
        return None
    expected = [prices.fold(by_name[t.training], t.fold).expected for t in submitted]
    if min(expected) <= seconds:
        return None

    def least(task: FoldTask) -> float:
        return least_seconds(by_name[task.training], task.fold, prices)

    task = min(submitted, key=least)
    training = by_name[task.training]
    one, each = one_epoch(training, task.fold, prices)
    more = int((seconds - one) / (_SAFETY * each)) if each else 0
    short = shortened(training, max(1, min(1 + more, task.cost.epochs)))
    if short is None or epochs_there(short, task.fold) >= short.task(task.fold).cost.epochs:
        return None
    return short, short.task(task.fold)


def tasks_of_submission(
    tasks: Sequence[FoldTask], by_name: Mapping[str, Training]
) -> list[FoldTask]:
    """The folds to train that can be submitted by themselves; all where none of them can."""
    trained = [task for task in tasks if task.cost.epochs]
    submitted = [task for task in trained if _predicts_label(by_name[task.training])]
    return submitted or trained


def _predicts_label(training: Training) -> bool:
    """Whether a training's members predict the label, or all tasks that make it together."""
    plan = training.all_plans[0]
    samples, targets = plan.workspace.samples, set(plan.output.targets)
    tasks = () if samples.composition is None else samples.composition.tasks
    return samples.targets[0] in targets or (bool(tasks) and targets.issuperset(tasks))


def least_seconds(training: Training, fold: int, prices: PriceList) -> float:
    """Seconds of a fold with one epoch, or of a whole one where it cannot be shortened."""
    if shortened_spec(training.all_plans[0].member.spec, 1) is None:
        return prices.fold(training, fold).expected
    return one_epoch(training, fold, prices)[0]


def one_epoch(training: Training, fold: int, prices: PriceList) -> tuple[float, float]:
    """Seconds of a fold with one epoch, predictions included, and of each further epoch."""
    work, price = workload_of(training, fold), prices.price(training)
    spec = shortened_spec(training.plans[0].member.spec, 1)
    passes = spec.passes if isinstance(spec, EnsembleSpec) else 1
    one = price.fold(replace(work, epochs=passes)).expected
    return one, price.training(replace(work, epochs=passes)).expected


def shortened_spec(spec: TrainedSpec, epochs: int) -> MemberSpec | EnsembleSpec | None:
    """The options of a training that has so many epochs; None where that cannot be."""
    if isinstance(spec, WITHOUT_EPOCHS):
        return None
    options = spec.model_dump(by_alias=True, exclude_unset=True) | {"epochs": epochs}
    if isinstance(spec, MemberSpec):
        options |= {k: v for k, v in _DROPPED.items() if k in options}
        options |= _scaled(spec, epochs)
    try:
        return type(spec).model_validate(options)
    except ValidationError:
        return None


def _scaled(spec: MemberSpec, epochs: int) -> dict[str, int]:
    """Options in epochs, in proportion."""
    share = epochs / spec.epochs
    scaled = {"warmup_epochs": int(spec.warmup_epochs * share)}
    scaled["freeze_epochs"] = int(spec.freeze_epochs * share)
    if spec.decay_epochs is not None:
        scaled["decay_epochs"] = max(1, round(spec.decay_epochs * share))
    return {key: value for key, value in scaled.items() if getattr(spec, key) != value}


def epochs_there(training: Training, fold: int) -> int:
    """How many epochs a finished fold of a shortened training has had; 0 when there is none."""
    folder = training.plans[0].on_disk.folder
    if not fold_path(folder, fold).is_file():
        return 0
    return len(read_finished_fold(folder, fold).record.get("history") or ())
