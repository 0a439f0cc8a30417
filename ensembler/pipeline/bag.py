"""`ens bag`: the members that torchensemble trains, an ensemble for each fold."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from ensembler.machine.execution import DEFAULT_EXECUTION, Execution
from ensembler.members.schedule import KFoldResult
from ensembler.pipeline.train import train_recipe
from ensembler.progress import QUIET, Progress
from ensembler.recipe.load import Recipe
from ensembler.training.spec import EnsembleMethod

METHODS = get_args(EnsembleMethod)


def train_ensembles(
    recipe: Recipe,
    artifacts: Path,
    *,
    execution: Execution = DEFAULT_EXECUTION,
    members: Sequence[str] | None = None,
    folds: Sequence[int] | None = None,
    progress: Progress = QUIET,
) -> KFoldResult:
    """Train what is missing of the recipe's torchensemble members, or of those named."""
    return train_recipe(
        recipe,
        artifacts,
        execution=execution,
        members=members,
        folds=folds,
        progress=progress,
        methods=METHODS,
    )
