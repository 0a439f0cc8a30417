"""Trainings: the members that come from the same networks in training are made together, fold by fold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ensembler.pipeline.member_plan import MemberPlan
from ensembler.pipeline.progress import FoldJob
from ensembler.predictions.finished_folds import FinishedFold
from ensembler.training.spec import EnsembleSpec, SoupSpec


@dataclass(frozen=True)
class Training:
    """The plans of members that one training makes."""

    name: str
    plans: tuple[MemberPlan, ...]

    @property
    def folder(self) -> Path:
        """Where its claims and its state lie: with the first of its members that is not complete."""
        return next((plan for plan in self.plans if not plan.is_complete), self.plans[0]).folder

    def state_path(self, fold: int) -> Path:
        """Where the training of a fold that is not over keeps its state."""
        return self.folder / f"fold{fold}.state"

    def missing(self, folds: Sequence[int] | None) -> list[int]:
        """Folds that some member still lacks."""
        return sorted({fold for plan in self.plans for fold in plan.missing(folds)})

    def unfinished(self, fold: int) -> list[MemberPlan]:
        """The members that lack this fold."""
        return [plan for plan in self.plans if not plan.is_complete and not plan.is_finished(fold)]

    def lacks(self, fold: int) -> str | None:
        """A member whose weights of some fold have to be there first; None when nothing is in the way."""
        spec = self.plans[0].job.spec
        if not isinstance(spec, SoupSpec):
            return None
        for ingredient in self.plans[0].ingredients:
            folds = range(ingredient.n_folds) if spec.take == "greedy" else [fold]
            if not all(ingredient.trained_weights(f) for f in folds):
                return ingredient.job.name
        return None

    def fold_job(self, fold: int) -> FoldJob:
        """One fold as progress counts it."""
        spec = self.plans[0].job.spec
        if isinstance(spec, SoupSpec):
            return FoldJob(self.name, fold, 1)
        return FoldJob(self.name, fold, spec.passes if isinstance(spec, EnsembleSpec) else spec.epochs)

    def progress_done(self, plan: MemberPlan, fold: int, finished: FinishedFold) -> None:
        """Say that a member has this fold, the last of them ending the training's."""
        progress, described = plan.workspace.progress, plan.describe(finished)
        if self.unfinished(fold):
            progress.note(f"{plan.job.name} fold {fold}: {described}")
        else:
            progress.fold_done(self.fold_job(fold), described)


def group_trainings(plans: Sequence[MemberPlan]) -> list[Training]:
    """The plans by training, in order."""
    grouped: dict[str, list[MemberPlan]] = {}
    for plan in plans:
        grouped.setdefault(plan.job.training, []).append(plan)
    return [Training(name, tuple(members)) for name, members in grouped.items()]
