"""`ens reproduce`: train folds of a run once more, aside, and compare their logits."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ensembler.errors import RequestError
from ensembler.execution.executors import executor_of
from ensembler.files import claim, fingerprint
from ensembler.machine.environment import differences, versions
from ensembler.machine.execution import DEFAULT_EXECUTION, Execution
from ensembler.members.executor import Failure
from ensembler.members.fold import environment_here
from ensembler.members.schedule import Schedule
from ensembler.pipeline.check import check_recipe
from ensembler.predictions.compare import FoldLogits, LogitDifference, compare_logits
from ensembler.predictions.finished_folds import (
    FinishedFold,
    fold_path,
    read_finished_fold,
)
from ensembler.predictions.members import Member
from ensembler.predictions.store import RunStore, cache_folder
from ensembler.progress import QUIET, Progress
from ensembler.recipe.load import Recipe
from ensembler.recipe.members import PlannedMember
from ensembler.recipe.own_code import code_named_by, introduce_code
from ensembler.reporting.tables import Cell, Table
from ensembler.workspace.workspace import (
    Workspace,
    check_run_is_trainable,
    open_workspace,
)

TOLERANCE = 0.02  # mean difference of probabilities, where bits cannot be the same
FOLDER = ".reproduce"

Verdict = Literal["identical", "close", "different"]


@dataclass(frozen=True)
class ComparedFold:
    """A fold trained again beside the one in the store."""

    member: str
    target: str
    fold: int
    verdict: Verdict
    difference: LogitDifference

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        content = {**asdict(self), **asdict(self.difference)}
        del content["difference"]
        return content


@dataclass(frozen=True)
class Reproduction:
    """What came of training again: the folds, and what differs between then and now.

    `is_exact` says that bits had to be the same: on a processor, with the same versions and
    threads.
    """

    run: str
    folds: tuple[ComparedFold, ...]
    differences: dict[str, tuple[object, object]]
    is_exact: bool
    tolerance: float
    failures: tuple[Failure, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """The worst of the folds."""
        found = {fold.verdict for fold in self.folds}
        if self.failures or not found or "different" in found:
            return "different"
        return "close" if "close" in found else "identical"

    def to_json(self) -> dict[str, Any]:
        """As the object that `ens reproduce --json` prints."""
        return {
            "run": self.run,
            "verdict": self.verdict,
            "exact": self.is_exact,
            "tolerance": self.tolerance,
            "differences": [
                {"name": name, "then": _text(then), "now": _text(now)}
                for name, (then, now) in self.differences.items()
            ],
            "folds": [fold.to_json() for fold in self.folds],
            "failures": [asdict(failure) for failure in self.failures],
        }

    def table(self) -> Table:
        """The folds side by side."""
        columns = ("member", "fold", "largest", "moved", "other", "then", "now", "")
        rows = tuple(_row(fold) for fold in self.folds)
        notes = (
            "largest difference of a logit, share of probability that moved on average, share of "
            "rows with another answer, log loss then and now.",
        )
        return Table(f"{self.run}, trained again", columns, rows, notes)

    @property
    def words(self) -> str:
        """The verdict, and what differs between then and now."""
        differs = "; ".join(
            f"{name} {_text(then) or 'unknown'} then, {_text(now) or 'none'} now"
            for name, (then, now) in self.differences.items()
        )
        by = (
            f" What differs: {differs}."
            if differs
            else " Versions and threads are the same."
        )
        said = {
            "identical": "Reproduced bit for bit.",
            "close": f"Reproduced within {self.tolerance:g} of probability on average.",
            "different": "Not reproduced.",
        }
        return said[self.verdict] + by


def _row(fold: ComparedFold) -> tuple[Cell, ...]:
    found = fold.difference
    return (
        fold.member if fold.target == "label" else f"{fold.member} ({fold.target})",
        fold.fold,
        found.max_difference,
        found.mean_difference,
        found.other_labels,
        found.log_loss_then,
        found.log_loss_now,
        fold.verdict,
    )


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def reproduce(
    store: RunStore,
    *,
    members: Sequence[str] | None = None,
    folds: Sequence[int] | None = None,
    tolerance: float = TOLERANCE,
    execution: Execution = DEFAULT_EXECUTION,
    progress: Progress = QUIET,
) -> Reproduction:
    """Train folds of a run (all by default) again in a folder aside, and compare their logits.

    They are trained from the recipe that the run keeps, on the rows and with the choices of its
    lock. Where environment, versions and threads are those of then, and it was a processor that
    computed, the logits have to be the same bit for bit; elsewhere their probabilities may differ
    by `tolerance` on average. Raises RequestError for a run without a recipe, ChangedRecipeError
    for data that have changed since.
    """
    check_run_is_trainable(store)
    recipe = _recipe_of(store, progress)
    check_recipe(recipe)
    with _aside(store) as folder:
        workspace = open_workspace(recipe, folder, progress)
        wanted = _in_store(store, workspace.select(members), named=members is not None)
        schedule = Schedule(workspace, executor_of(execution))
        result = schedule.train(_with_ingredients(workspace, wanted), folds)
        comparison = _Comparison(
            store,
            RunStore(workspace.store.folder),
            environment_here(execution),
            tolerance,
        )
        compared = [
            comparison.of_member(planned.name, folds)
            for planned in wanted
            if not planned.parts
        ]
    environments = [of_member.differences for of_member in compared]
    return Reproduction(
        store.name,
        tuple(chain.from_iterable(of_member.folds for of_member in compared)),
        {name: both for found in environments for name, both in found.items()},
        all(of_member.is_exact for of_member in compared),
        tolerance,
        result.failures,
    )


def _recipe_of(store: RunStore, progress: Progress) -> Recipe:
    recipe = Recipe.load_recorded(store.recipe_path)
    # The folder of a run is no place to import from: it may have come from somebody else.
    introduce_code(code_named_by(recipe.spec), progress, [Path.cwd()])
    return replace(recipe, spec=recipe.spec.model_copy(update={"name": store.name}))


@contextmanager
def _aside(store: RunStore) -> Iterator[Path]:
    """A folder of runs with one that has the rows and the lock of `store`, and no members.

    What is finished in it stays when the block is left by an exception, and is found again by the
    next call with the same versions.
    """
    root = store.folder.resolve().parent
    key = fingerprint([versions(), store.samples_sha256, store.lock.recipe])
    folder = root / FOLDER / f"{store.name}-{key}"
    lock = root / FOLDER / f".{store.name}-{key}.lock"
    with _removed_if_empty(root / FOLDER), claim(lock) as is_ours:
        if not is_ours:
            raise RequestError(
                f"another `ens reproduce {store.name}` is at work; wait for it"
            )
        _prepare(store, folder, cache_folder(root))
        try:
            yield folder
        except RequestError:
            shutil.rmtree(folder)
            raise
        shutil.rmtree(folder)


def _prepare(store: RunStore, folder: Path, cache: Path) -> None:
    """Make a run of the same rows and lock, that shares the prepared pixels."""
    run = folder / store.name
    run.mkdir(parents=True, exist_ok=True)
    for path in (store.recipe_lock_path, store.samples_path):
        if path.is_file() and not (run / path.name).is_file():
            shutil.copyfile(path, run / path.name)
    link = folder / ".cache"
    if cache.is_dir() and not link.is_symlink():
        link.symlink_to(cache.resolve())


@contextmanager
def _removed_if_empty(folder: Path) -> Iterator[None]:
    try:
        yield
    finally:
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def _in_store(
    store: RunStore, selected: Sequence[PlannedMember], *, named: bool
) -> list[PlannedMember]:
    """The members that the run has complete; of those that were `named` all must be."""
    complete = store.complete_members
    if named or not complete:
        for planned in selected:
            store.member(planned.name)
    return [planned for planned in selected if planned.name in complete]


def _with_ingredients(
    workspace: Workspace, selected: Sequence[PlannedMember]
) -> tuple[PlannedMember, ...]:
    """The members selected, and those whose weights a soup among them takes."""
    needed = set(chain.from_iterable(planned.ingredients for planned in selected))
    return tuple(
        planned
        for planned in workspace.members
        if planned in selected or planned.name in needed
    )


@dataclass(frozen=True)
class _ComparedMember:
    """The folds of one member, what computed them otherwise, and whether bits had to be equal."""

    folds: tuple[ComparedFold, ...]
    differences: Mapping[str, tuple[object, object]]
    is_exact: bool


@dataclass(frozen=True)
class _Comparison:
    """What is compared: a run and the one aside, in the environment of `now`."""

    store: RunStore
    again: RunStore
    now: Mapping[str, Any]
    tolerance: float

    def of_member(self, name: str, folds: Sequence[int] | None) -> _ComparedMember:
        """Compare the folds of one member that were trained again with those in the store."""
        member = self.store.member(name)
        numbers = range(member.record.folds) if folds is None else folds
        found: list[ComparedFold] = []
        changed: dict[str, tuple[object, object]] = {}
        is_exact = True
        for fold in numbers:
            if not self._is_there(name, fold):
                continue  # it failed, which the failures say
            differs = self._differences(member, fold)
            exact = self.now["device"] == "cpu" and not differs
            changed |= differs
            is_exact &= exact
            for target in member.targets:
                difference = self._difference(member.for_target(target), fold)
                verdict = _verdict(difference, None if exact else self.tolerance)
                found.append(ComparedFold(name, target, fold, verdict, difference))
        return _ComparedMember(tuple(found), changed, is_exact)

    def _is_there(self, name: str, fold: int) -> bool:
        is_finished = fold_path(self.again.member_folder(name), fold).is_file()
        return is_finished or name in self.again.complete_members

    def _differences(self, member: Member, fold: int) -> dict[str, tuple[object, object]]:
        """What differs between the environment that trained a fold, and this one."""
        environments = member.record.environments
        then = environments[fold] if fold < len(environments) else None
        if then is not None:
            return differences(then, self.now)
        # The member is of an earlier version, and the lock alone says something.
        said = {**self.now, "versions": self.store.lock.versions, "threads": None}
        return differences(said, self.now)

    def _difference(self, member: Member, fold: int) -> LogitDifference:
        store, target = self.store, member.record.target
        rows = np.flatnonzero(member.folds == fold)
        if member.name in self.again.complete_members:
            again = self.again.member(member.name).for_target(target)
            views_again: Sequence[str] = again.record.views
            now = FoldLogits(again.oof_logits[:, rows], again.test_logits[fold])
        else:
            finished = read_finished_fold(self.again.member_folder(member.name), fold)
            views_again = finished.record["views"]
            now = _of_target(finished, target)
        then = FoldLogits(member.oof_logits[:, rows], member.test_logits[fold])
        common = [view for view in member.record.views if view in views_again]
        labels = store.labels(target, "train", member.record.classes)[rows]
        return compare_logits(
            _of_views(then, [member.record.views.index(view) for view in common]),
            _of_views(now, [views_again.index(view) for view in common]),
            labels,
            store.kind(target),
        )


def _of_target(finished: FinishedFold, target: str) -> FoldLogits:
    columns = slice(*finished.record["tasks"][target])
    return FoldLogits(finished.oof[..., columns], finished.test[..., columns])


def _of_views(logits: FoldLogits, views: Sequence[int]) -> FoldLogits:
    return FoldLogits(np.asarray(logits.oof)[views], np.asarray(logits.test)[views])


def _verdict(difference: LogitDifference, tolerance: float | None) -> Verdict:
    """`tolerance` None: the bits have to be the same."""
    if difference.is_identical:
        return "identical"
    if tolerance is None or not difference.mean_difference <= tolerance:
        return "different"
    return "close"
