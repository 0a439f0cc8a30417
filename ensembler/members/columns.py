"""The columns that a tabular member is fitted on: of the manifest, and members' predictions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ensembler.data.columns import FEATURE_PREFIX
from ensembler.errors import TrainingError
from ensembler.estimators.columns import ColumnKind, as_categories, as_numbers
from ensembler.files import fingerprint
from ensembler.predictions.members import Member
from ensembler.predictions.store import RunStore
from ensembler.training.spec import TabularSpec
from ensembler.workspace.workspace import Workspace

_LEAST = 1e-6  # the least probability whose logarithm is a column


@dataclass(frozen=True)
class Columns:
    """Columns of all images `[images]`, in their order, and whether each is a number."""

    table: pd.DataFrame
    kinds: Mapping[str, ColumnKind]

    @property
    def digest(self) -> str:
        """A digest of everything in it."""
        return fingerprint([self.table.to_csv(index=False), dict(self.kinds)])


def columns_of(workspace: Workspace, spec: TabularSpec) -> Columns:
    """The columns of the manifest that a member names, numbers where all cells are."""
    names = spec.columns or workspace.spec.data.feature_names
    stated = workspace.spec.data.feature_kinds
    found: dict[str, pd.Series] = {}
    kinds: dict[str, ColumnKind] = {}
    for name in names:
        cells = workspace.samples.table[f"{FEATURE_PREFIX}{name}"]
        numbers = None if stated.get(name) == "category" else as_numbers(cells)
        kinds[name] = "category" if numbers is None else "number"
        found[name] = as_categories(cells) if numbers is None else numbers
    table = pd.DataFrame(found, index=workspace.samples.table.index)
    return Columns(table.reset_index(drop=True), kinds)


def with_predictions(
    columns: Columns, workspace: Workspace, names: tuple[str, ...]
) -> Columns:
    """The columns, and beside them the logarithms of the probabilities that members give.

    Those of a train row are out of fold, those of a test row the mean of the folds'. TrainingError
    for a member that is not complete.
    """
    store = RunStore(workspace.store.folder)
    found, kinds = dict(columns.table.items()), dict(columns.kinds)
    for name in names:
        if name not in store.complete_members:
            raise TrainingError(f"stack: member {name!r} is not complete")
        member = store.member(name)
        for target in member.targets:
            of_target = member.for_target(target)
            values = _log_probs(workspace, of_target)
            for n, label in enumerate(of_target.record.classes):
                column = f"{name}: {target}={label}"
                found[column] = pd.Series(values[:, n])
                kinds[column] = "number"
    return Columns(pd.DataFrame(found), kinds)


def _log_probs(workspace: Workspace, member: Member) -> NDArray[np.float64]:
    """What a member predicts of all images `[images, classes]`; NaN where it predicts nothing."""
    classes = member.record.classes
    train, test = workspace.image_rows
    probs = np.full((len(workspace.samples.table), len(classes)), np.nan)
    probs[train] = member.oof(classes)
    if len(test):
        probs[test] = member.test(classes).mean(axis=0)
    return np.log(np.maximum(probs, _LEAST))
