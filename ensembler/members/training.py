"""Trainings: members that come from the same networks are made together, fold by fold."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from ensembler.data.size import area
from ensembler.files import fingerprint
from ensembler.members.plan import MemberPlan
from ensembler.predictions.finished_folds import FinishedFold
from ensembler.progress import FoldCost, FoldTask
from ensembler.recipe.members import PlannedMember
from ensembler.training.spec import EnsembleSpec, FittedSpec, MemberSpec, SoupSpec
from ensembler.workspace.workspace import Workspace


@dataclass(frozen=True)
class Training:
    """The members that one training makes: `plans` those asked for, `all_plans` all of them.

    Whoever asks for whichever of them, the training is the same one, with one claim and one state
    for each fold.
    """

    name: str
    plans: tuple[MemberPlan, ...]
    all_plans: tuple[MemberPlan, ...]

    @property
    def folder(self) -> Path:
        """Where its claims and states lie while it lasts."""
        return self.plans[0].workspace.store.folder / ".training" / self.name

    @property
    def fingerprint(self) -> str:
        """A digest of everything that decides what it makes."""
        return self.all_plans[0].fingerprint

    @property
    def sees_images(self) -> bool:
        """Whether a network of it looks at images."""
        return self.all_plans[0].member.sees_images

    @property
    def memory_advice(self) -> AbstractContextManager[None]:
        """A block in which an error for want of memory says which of its options need less."""
        from ensembler.networks.memory import memory_advice

        first = self.all_plans[0]
        base = first.member.base
        accumulate = base.accumulate if isinstance(base, MemberSpec) else None
        return memory_advice(
            batch_size=base.batch_size,
            size=first.input.size,
            amp=base.amp,
            accumulate=accumulate,
        )

    def state_path(self, fold: int) -> Path:
        """Where the training of a fold that is not over keeps its state."""
        return self.folder / f"fold{fold}.state"

    def predicted_path(self, plan: MemberPlan, fold: int, made_with: Sequence[str]) -> Path:
        """Where the logits of a member's fold gather.

        `made_with` says what counts beside views and images.
        """
        views = [
            v if isinstance(v, str) else v.model_dump(mode="json")
            for v in plan.workspace.spec.views
        ]
        images = plan.workspace.store.lock.images
        key = fingerprint([plan.fingerprint, views, images, *made_with])
        return self.folder / f".fold{fold}-{plan.member.name}-{key[:16]}.npy"

    def forget(self, fold: int) -> None:
        """Remove what only an unfinished fold needs: its state, and what it has predicted."""
        for path in (self.state_path(fold), *self.folder.glob(f".fold{fold}-*")):
            path.unlink(missing_ok=True)

    def tidy(self) -> None:
        """Remove what finished folds have left, as one that was killed at its end does."""
        if self.folder.is_dir():
            for fold in range(self.plans[0].rows.n_folds):
                if not self.unfinished(fold):
                    self.forget(fold)

    def remove_empty_folders(self) -> None:
        """Remove the folder of its claims and states, and that of all trainings, if empty."""
        # of an earlier version that was killed
        (self.folder / ".options").unlink(missing_ok=True)
        for folder in (self.folder, self.folder.parent):
            with contextlib.suppress(OSError):  # not empty, or already gone
                folder.rmdir()

    def missing(self, folds: Sequence[int] | None) -> list[int]:
        """Folds that some member still lacks."""
        return sorted(
            set(chain.from_iterable(plan.on_disk.missing(folds) for plan in self.plans))
        )

    def unfinished(self, fold: int) -> list[MemberPlan]:
        """The members that lack this fold."""
        return [
            plan
            for plan in self.plans
            if not plan.on_disk.is_complete and not plan.on_disk.is_finished(fold)
        ]

    def lacks(self, fold: int) -> str | None:
        """A member whose weights of some fold have to be there first.

        None when nothing is in the way.
        """
        spec = self.plans[0].member.spec
        if not isinstance(spec, SoupSpec):
            return None
        for ingredient in self.plans[0].ingredients:
            folds = range(ingredient.rows.n_folds) if spec.take == "greedy" else [fold]
            if not all(ingredient.on_disk.checkpoint_header(f) for f in folds):
                return ingredient.member.name
        return None

    def task(self, fold: int) -> FoldTask:
        """One fold as a task, with its cost."""
        return FoldTask(self.name, fold, self._cost)

    def missing_tasks(self, folds: Sequence[int] | None) -> list[FoldTask]:
        """Folds that some member still lacks, as tasks."""
        return [self.task(fold) for fold in self.missing(folds)]

    @property
    def _cost(self) -> FoldCost:
        plan, spec = self.all_plans[0], self.plans[0].member.spec
        if isinstance(spec, SoupSpec):
            return FoldCost(0)
        if isinstance(spec, FittedSpec):
            return FoldCost(1, f"{spec.method} {plan.member.base.backbone}", 1.0)
        network, work = f"{spec.method} {spec.backbone}", float(area(plan.input.size))
        if isinstance(spec, EnsembleSpec):
            return FoldCost(spec.passes, network, work)
        return FoldCost(spec.epochs, network, work, spec.freeze_epochs)

    def progress_done(self, plan: MemberPlan, fold: int, finished: FinishedFold) -> None:
        """Say that a member has this fold, the last of them ending the training's."""
        progress, described = plan.workspace.progress, plan.output.describe(finished)
        if self.unfinished(fold):
            progress.note(f"{plan.member.name} fold {fold}: {described}")
        else:
            progress.fold_done(self.task(fold), described)


def group_trainings(plans: Sequence[MemberPlan]) -> list[Training]:
    """The trainings of the plans, in order."""
    asked: dict[str, list[MemberPlan]] = {}
    for plan in plans:
        asked.setdefault(plan.member.training, []).append(plan)
    planned = _members_by_training(plans[0].workspace) if plans else {}
    return [
        Training(name, tuple(members), _all_plans(members, planned[name]))
        for name, members in asked.items()
    ]


def _members_by_training(workspace: Workspace) -> dict[str, list[PlannedMember]]:
    found: dict[str, list[PlannedMember]] = {}
    for member in workspace.members:
        if not member.parts:
            found.setdefault(member.training, []).append(member)
    return found


def _all_plans(
    asked: Sequence[MemberPlan], members: Sequence[PlannedMember]
) -> tuple[MemberPlan, ...]:
    by_name = {plan.member.name: plan for plan in asked}
    return tuple(
        by_name.get(member.name) or MemberPlan(asked[0].workspace, member)
        for member in members
    )
