"""`ens kfold`: the members that our own loop trains, and the soups of their weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ensembler.machine.execution import DEFAULT_EXECUTION, Execution
from ensembler.members.schedule import KFoldResult
from ensembler.pipeline.train import train_recipe
from ensembler.progress import QUIET, Progress
from ensembler.recipe.load import Recipe

METHODS = ("kfold", "soup")


def train_kfold(
    recipe: Recipe,
    artifacts: Path,
    *,
    execution: Execution = DEFAULT_EXECUTION,
    members: Sequence[str] | None = None,
    folds: Sequence[int] | None = None,
    progress: Progress = QUIET,
) -> KFoldResult:
    """Train what is missing of the recipe's K-fold members and soups, or of those named."""
    return train_recipe(
        recipe,
        artifacts,
        execution=execution,
        members=members,
        folds=folds,
        progress=progress,
        methods=METHODS,
    )
