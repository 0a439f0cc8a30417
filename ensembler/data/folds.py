"""Splitting samples into folds and a holdout, and checking that the split is what it says."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ensembler.data.fold_file import GIVEN, HELD_OUT, given_column
from ensembler.data.samples import SampleSet
from ensembler.data.spec import FoldSpec, Scheme
from ensembler.errors import FoldsError, GroupLeakError
from ensembler.fold_columns import fold_column, is_fold_column, is_repeat
from ensembler.targets.kinds import MULTI_LABEL
from ensembler.targets.label_sets import indicators, labels_in
from ensembler.targets.target import Target


@dataclass(frozen=True)
class SplitResult:
    """The table of a run and what is worth knowing about its split.

    `table` has the samples' columns without `path` and `fold_given`, train rows first, then the
    rows of the test part, then the held-out rows; `fold` is -1 where a row is never validated.
    `scheme: repeated` adds `fold_r2`, `fold_r3`...
    """

    table: pd.DataFrame
    notes: tuple[str, ...]


def split_samples(samples: SampleSet, folds: FoldSpec) -> SplitResult:
    """Split the samples as the recipe says; the same samples and seed give the same split.

    A sample with several labels at once is stratified by the rarest of them. Raises FoldsError with
    the counts when the classes or groups do not allow it.
    """
    table = samples.table.copy()
    target = samples.targets[0]
    _stratify(table, samples, folds.count)
    scheme = folds.scheme or ("stratified-group" if "group" in table else "stratified")
    if folds.are_given:
        scheme = "column"
    if scheme in ("group", "stratified-group") and "group" not in table:
        raise FoldsError(
            f"folds.scheme: {scheme} needs groups; name their column with data.group"
        )
    if HELD_OUT in table:
        table.loc[table[HELD_OUT], "split"] = "test"
    if folds.holdout > 0:
        table = _hold_out(table, target, folds)
        _stratify(table, samples, folds.count)
    train = np.flatnonzero(table["split"] == "train")
    notes: list[str] = []
    for column, numbers in _fold_columns(table.iloc[train], target, scheme, folds, notes):
        table[column] = -1
        table.iloc[train, list(table.columns).index(column)] = numbers
        by_label = table.assign(**{target: samples.table[target]})
        check_folds(by_label, samples.target(target), column, scheme)
    table[target] = samples.table[target]
    order = np.argsort(_part_of(table), kind="stable")
    fold_columns = [c for c in table.columns if is_fold_column(c)]
    columns = [
        "id",
        "split",
        "source",
        *fold_columns,
        *samples.targets,
        *(["group"] if "group" in table else []),
    ]
    return SplitResult(table.iloc[order][columns].reset_index(drop=True), tuple(notes))


def _stratify(table: pd.DataFrame, samples: SampleSet, at_least: int) -> None:
    """Put what a train row is stratified by in the place of its label, or of its set of them."""
    target, train = (
        samples.target(samples.targets[0]),
        (table["split"] == "train").to_numpy(),
    )
    cells = samples.table.loc[train, target.name].tolist()
    table.loc[train, target.name] = target.strata(cells, at_least)


def _check_sets(table: pd.DataFrame, target: str, column: str, scheme: str) -> None:
    """Raise FoldsError for a label with all its train rows in one fold, or with none."""
    train = table[table["split"] == "train"]
    names = sorted(labels_in(table.loc[table["source"] == "train", target]))
    has_label = indicators(train[target], names) > 0
    for i, name in enumerate(names):
        folds = train[column].to_numpy()[has_label[:, i]]
        if len(folds) and (folds[0] < 0 or (folds != folds[0]).any()):
            continue
        where = f"no row of {name!r} is left to train on"
        if len(folds):
            where = f"all {len(folds)} rows of {name!r} are in fold {folds[0]}"
        raise FoldsError(
            f"scheme {scheme}: {where}: there is a checkpoint that never sees the label; lower "
            "folds.count, change folds.seed, or leave rare labels out with min_count"
        )


def _part_of(table: pd.DataFrame) -> NDArray[np.int64]:
    held_out = (table["split"] == "test") & (table["source"] == "train")
    return np.where(table["split"] == "train", 0, np.where(held_out, 2, 1))


def _hold_out(table: pd.DataFrame, target: str, folds: FoldSpec) -> pd.DataFrame:
    """Turn a share of the train rows (whole groups) into labelled test rows."""
    rows = np.flatnonzero(table["split"] == "train")
    train = table.iloc[rows]
    labels = _codes(train[target])
    if "group" in table:
        from sklearn.model_selection import StratifiedGroupKFold

        n_parts = max(2, round(1 / folds.holdout))
        splitter = StratifiedGroupKFold(n_parts, shuffle=True, random_state=folds.seed)
        parts = [test for _, test in _quiet(splitter.split(rows, labels, train["group"]))]
        # Groups are uneven: take the part whose size is nearest to the share asked for.
        out = min(parts, key=lambda part: abs(len(part) / len(rows) - folds.holdout))
    else:
        from sklearn.model_selection import train_test_split

        try:
            _, out = train_test_split(
                np.arange(len(rows)),
                test_size=folds.holdout,
                stratify=labels,
                random_state=folds.seed,
            )
        except ValueError as error:
            raise FoldsError(
                f"folds.holdout {folds.holdout:g} cannot be taken in equal shares of the classes: "
                f"{error}"
            ) from error
    lost = set(train[target].dropna()) - set(np.delete(train[target].to_numpy(), out))
    if len(out) == 0 or lost:
        fault = f"leave no train row of {sorted(lost)[0]!r}" if lost else "take no row"
        raise FoldsError(
            f"folds.holdout {folds.holdout:g} would {fault}; choose another share or seed "
            f"({_counts(train[target])})"
        )
    held = table.copy()
    held.iloc[rows[out], list(held.columns).index("split")] = "test"
    return held


def _fold_columns(
    train: pd.DataFrame, target: str, scheme: Scheme, folds: FoldSpec, notes: list[str]
) -> Iterator[tuple[str, NDArray[np.int64]]]:
    if scheme == "column":
        repeats = [str(c).removesuffix(GIVEN) for c in train if is_repeat(c)]
        for column in ["fold", *repeats]:
            yield column, _given(train, folds, column)
    elif scheme == "single":
        yield "fold", _single(train, target, folds, notes)
    elif scheme == "repeated":
        kind: Scheme = "stratified-group" if "group" in train else "stratified"
        for i in range(folds.repeats):
            yield fold_column(i), _split(train, target, kind, folds, folds.seed + i, notes)
    else:
        yield "fold", _split(train, target, scheme, folds, folds.seed, notes)


def _given(train: pd.DataFrame, folds: FoldSpec, column: str) -> NDArray[np.int64]:
    numbers = train[given_column(column)].to_numpy(np.int64)
    found = sorted(set(numbers[numbers >= 0].tolist()))
    if found != list(range(len(found))) or len(found) < 2:
        raise FoldsError(
            f"column {folds.column or column!r} holds folds {found}; expected 0, 1, ... with at "
            "least two folds"
        )
    return numbers


def _single(
    train: pd.DataFrame, target: str, folds: FoldSpec, notes: list[str]
) -> NDArray[np.int64]:
    count = max(2, round(1 / folds.share))
    kind: Scheme = "stratified-group" if "group" in train else "stratified"
    numbers = _split(
        train, target, kind, folds.model_copy(update={"count": count}), folds.seed, notes
    )
    return np.where(numbers == 0, 0, -1).astype(np.int64)


def _split(
    train: pd.DataFrame,
    target: str,
    scheme: Scheme,
    folds: FoldSpec,
    seed: int,
    notes: list[str],
) -> NDArray[np.int64]:
    from sklearn.model_selection import GroupKFold, KFold, StratifiedKFold

    labels = _codes(train[target])
    _check_possible(train, target, scheme, folds)
    if scheme == "stratified-group":
        return _stratified_groups(train, labels, folds.count, seed, notes)
    splitters: dict[str, Any] = {
        "stratified": StratifiedKFold(folds.count, shuffle=True, random_state=seed),
        "group": GroupKFold(folds.count, shuffle=True, random_state=seed),
        "plain": KFold(folds.count, shuffle=True, random_state=seed),
    }
    groups = train["group"] if scheme == "group" else None
    return _numbers(_quiet(splitters[scheme].split(labels, labels, groups)), len(train))


def _stratified_groups(
    train: pd.DataFrame, labels: NDArray[np.int64], count: int, seed: int, notes: list[str]
) -> NDArray[np.int64]:
    """scikit-learn's stratified-group split.

    Another seed when it leaves a fold empty or without a class.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    groups = train["group"]
    # A class whose groups are fewer than the folds cannot be everywhere: do not ask for it.
    spread = pd.Series(groups.to_numpy()).groupby(labels).nunique()
    everywhere = [int(c) for c in spread.index[spread >= count]]
    best, best_lacking = None, None
    for attempt in range(20):
        splitter = StratifiedGroupKFold(
            count, shuffle=True, random_state=seed + 1000 * attempt
        )
        numbers = _numbers(_quiet(splitter.split(labels, labels, groups)), len(labels))
        lacking = sum(
            len(set(np.unique(numbers[labels == c]).tolist()) ^ set(range(count)))
            for c in everywhere
        ) + 1000 * (count - len(np.unique(numbers)))
        if best_lacking is None or lacking < best_lacking:
            best, best_lacking = numbers, lacking
        if lacking == 0:
            break
    assert best is not None
    if attempt > 0:
        notes.append(
            "scikit-learn's first stratified-group split left a fold without a class; "
            f"{attempt + 1} seeds were tried"
        )
    return best


def _quiet(splits: Any) -> Any:
    with warnings.catch_warnings():
        # scikit-learn warns of small classes; check_folds says what matters
        warnings.simplefilter("ignore")
        return list(splits)


def _numbers(splits: Any, n: int) -> NDArray[np.int64]:
    numbers = np.full(n, -1, dtype=np.int64)
    for fold, (_, validation) in enumerate(splits):
        numbers[validation] = fold
    return numbers


def _check_possible(
    train: pd.DataFrame, target: str, scheme: Scheme, folds: FoldSpec
) -> None:
    counts = train[target].value_counts()
    if scheme == "stratified" and counts.min() < folds.count:
        raise FoldsError(
            f"{folds.count} folds, but class {counts.idxmin()!r} of {target} has "
            f"{counts.min()} rows ({_counts(train[target])}); lower folds.count, leave the "
            "class out with data.keep, or use scheme: plain"
        )
    if scheme in ("group", "stratified-group") and train["group"].nunique() < folds.count:
        raise FoldsError(
            f"{folds.count} folds, but there are {train['group'].nunique()} groups; lower "
            "folds.count"
        )
    if len(train) < folds.count:
        raise FoldsError(
            f"{folds.count} folds, but there are {len(train)} labelled rows; lower folds.count"
        )


def check_folds(
    table: pd.DataFrame, target: Target, column: str = "fold", scheme: str = "given"
) -> None:
    """Raise FoldsError when a fold is empty or lacks a class.

    Each class of the target must be on both sides of every fold. GroupLeakError for a group in
    several folds.
    """
    train = table[table["split"] == "train"]
    validated = train[train[column] >= 0]
    if validated.empty:
        raise FoldsError("no row is validated in any fold")
    n_folds = int(validated[column].max()) + 1
    sizes = validated[column].value_counts().reindex(range(n_folds), fill_value=0)
    if (sizes == 0).any():
        raise FoldsError(
            f"scheme {scheme} leaves fold {int(sizes.to_numpy().argmin())} empty (sizes "
            f"{sizes.tolist()}); lower folds.count or change folds.seed"
        )
    if "group" in train:
        _check_groups(validated, column)
    if target.kind is MULTI_LABEL:
        _check_sets(table, target.name, column, scheme)
    else:
        _check_classes(train, target.name, column, n_folds, scheme)


def _check_groups(validated: pd.DataFrame, column: str) -> None:
    spread = validated.groupby("group")[column].nunique()
    spread = spread[spread > 1]
    if len(spread):
        raise GroupLeakError(
            f"{len(spread)} groups are in several folds, such as {spread.index[0]!r}; "
            "use scheme: stratified-group or group, or correct the fold column"
        )


def _check_classes(
    train: pd.DataFrame, target: str, column: str, n_folds: int, scheme: str
) -> None:
    for fold in range(n_folds):
        seen = set(train[target][train[column] != fold])
        lost = sorted(set(train[target].dropna()) - seen)
        if lost:
            table = pd.crosstab(train[target], train[column])
            counts = ", ".join(
                f"fold {f}: {int(table.loc[lost[0], f])}"
                for f in map(int, table.columns)
                if f >= 0
            )
            raise FoldsError(
                f"scheme {scheme}: all rows of class {lost[0]!r} are in fold {fold} ({counts}): "
                "its checkpoint never sees the class; lower folds.count, change folds.seed, or "
                "leave rare classes out with min_count"
            )


def _codes(labels: pd.Series) -> NDArray[np.int64]:
    return np.asarray(pd.factorize(labels)[0], np.int64)


def _counts(labels: pd.Series) -> str:
    counts = labels.value_counts().sort_values()
    shown: Sequence[str] = [f"{name}: {n}" for name, n in counts.head(6).items()]
    return "rows per class: " + ", ".join(shown) + (", ..." if len(counts) > 6 else "")
