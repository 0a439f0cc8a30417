"""From the parts of a source to samples: what is kept of them, and what does not fit together."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from ensembler.data.images import ChosenImages, Images, JoinedImages
from ensembler.data.sources import MOST_NAMED, Fault, Part, Remark, read_source, read_test_part
from ensembler.data.spec import DataSpec, FoldSpec
from ensembler.data.targets import (
    compose,
    has_label,
    label_names,
    stated_order,
    unwanted_labels,
    unwanted_rows,
)
from ensembler.errors import DataError, nearest
from ensembler.plain_text import check_plain_text
from ensembler.targets.composition import Composition
from ensembler.targets.label_sets import SetFormat, read_set, strata, without_labels
from ensembler.targets.natural_order import in_natural_order
from ensembler.targets.target import Target


@dataclass(frozen=True)
class SampleSet:
    """Samples with their images.

    `table` has a row for each sample: `id` (text, unique), `split` ("train" or "test"), `source`
    (as `split`), `path`, a column of label names for each target (None = unknown) and, when the
    recipe names them, `group` and `fold_given`. Row i is image i. `classes` holds each target's
    class names in their order. A composed class is the first target; `train:NAME` beside a target
    holds the labels to train on where they differ; `weight` the sample weights. The targets in
    `set_formats` are multi-label: their column holds sets of labels. `remarks` are for the user to
    hear.
    """

    table: pd.DataFrame
    targets: tuple[str, ...]
    classes: dict[str, tuple[str, ...]]
    images: Images
    left_out: tuple[str, ...] = field(default=())
    composition: Composition | None = None
    set_formats: dict[str, SetFormat] = field(default_factory=dict)
    remarks: tuple[Remark, ...] = ()

    def target(self, name: str) -> Target:
        """A target with its classes and kind."""
        return Target(name, self.classes[name], self.set_formats.get(name))

    def labels_below(self, target: str) -> pd.Series:
        """The labels of a target with their rows as index.

        A row with several at once comes as often as it has any.
        """
        labels = self.table[target]
        if target in self.set_formats:
            labels = labels.map(read_set).explode()
        return labels.dropna()


def read_samples(data: DataSpec, folds: FoldSpec, faults: list[Fault] | None = None) -> SampleSet:
    """Read the samples that a recipe names, and check everything that needs no pixel.

    With `faults` what can be read is read: rows that a run would refuse are left out and noted
    there.

    Raises DataError with every fault found: missing columns and images, ids that stand twice,
    labels that are empty or only in the test part, a single class, paths that leave their root.
    """
    train, test, classes = read_source(data, folds, faults)
    train = _keep(train, data)
    unwanted = unwanted_rows(train.table, data)
    if unwanted.any():
        train = train.choose(np.flatnonzero(~unwanted).tolist())
    for name, gone in unwanted_labels(train.table, data).items():
        for part in (train,) if test is None else (train, test):
            part.table[name] = [without_labels(text, gone) for text in part.table[name]]
    if data.limit is not None:
        train = _limit(train, data, data.limit)
    if test is not None and data.test_limit is not None:
        test = test.choose(_drawn(len(test.table), data.test_limit))
    parts = [train] if test is None else [train, test]
    table = pd.concat([part.table for part in parts], ignore_index=True)
    _check_ids(table, data)
    sets = data.set_formats
    stated = {
        name: classes.get(name) or stated_order(spec) for name, spec in data.target_specs.items()
    }
    if data.classes is not None:
        stated[data.target_names[0]] = data.classes
    classes = {
        name: stated[name]
        or in_natural_order(label_names(train.table[name], multi_label=name in sets))
        for name in data.target_specs
    }
    for name, spec in data.target_specs.items():
        table[name] = (
            table[name]
            .astype(object)
            .where(table[name].notna() & ~table[name].isin(spec.drop), None)
        )
    _check_labels(table, train, classes, {name for name in stated if stated[name]}, sets, faults)
    composition = None
    if data.composition is not None:
        table, composition = compose(table, data, classes, table["split"] == "train")
        classes = {composition.name: composition.classes, **classes}
    for column in [c for c in ("id", "group", *data.label_names) if c in table]:
        check_plain_text(table[column], column, str(data.source))
    images = parts[0].images if len(parts) == 1 else JoinedImages([part.images for part in parts])
    remarks = tuple(remark for part in parts for remark in part.remarks)
    return SampleSet(
        table,
        data.label_names,
        classes,
        images,
        composition=composition,
        set_formats=sets,
        remarks=remarks,
    )


def drop_samples(samples: SampleSet, ids: Iterable[str]) -> SampleSet:
    """The samples without those named."""
    out = set(ids)
    kept = np.flatnonzero(~samples.table["id"].isin(out).to_numpy())
    gone = tuple(i for i in samples.table["id"] if i in out)
    return replace(
        samples,
        table=samples.table.iloc[kept].reset_index(drop=True),
        images=ChosenImages(samples.images, kept.tolist()),
        left_out=(*samples.left_out, *gone),
    )


def read_unlabelled(source: Path, data: DataSpec) -> Part:
    """New samples in a folder or a manifest (its columns named as in the recipe).

    Their ids are unique.
    """
    part = read_test_part(source, data.model_copy(update={"root": None, "group": None}))
    ids = part.table["id"]
    check_plain_text(ids, "id", str(source))
    if ids.duplicated().any():
        raise DataError(
            f"{source}: duplicate id {ids[ids.duplicated()].iloc[0]!r}: ids must be unique"
        )
    return part


# --- checks over both parts
# ------------------------------------------------------------------------------------------


def _check_ids(table: pd.DataFrame, data: DataSpec) -> None:
    if (table["id"] == "").any():
        raise DataError(
            f"an id is empty in row {int(np.flatnonzero(table['id'] == '')[0]) + 2} of "
            f"{data.source}"
        )
    twice = table["id"][table["id"].duplicated()].unique().tolist()
    if twice:
        shown = ", ".join(repr(i) for i in twice[:MOST_NAMED])
        raise DataError(
            f"{len(twice)} ids stand twice, such as {shown}; name a unique column with data.id, or "
            "remove the copies"
        )


def _check_labels(
    table: pd.DataFrame,
    train: Part,
    classes: dict[str, tuple[str, ...]],
    stated: Collection[str],
    sets: Collection[str],
    faults: list[Fault] | None,
) -> None:
    problems = []
    for target, names in classes.items():
        multi = target in sets
        found = label_names(train.table[target], multi_label=multi)
        if target not in stated:  # a recipe that names classes means each of them
            problems += _lookalikes(target, sorted(found), train.where)
        strange = in_natural_order(found - set(names))
        if strange:
            problems.append(
                f"{train.where}: {target} has labels that its classes do not name: "
                f"{', '.join(strange[:MOST_NAMED])}; "
                "name them, or leave their rows out (data.keep, or drop of the target)"
            )
            if faults is not None:
                table.loc[has_label(table[target], strange, multi_label=multi), target] = None
        if len(found) == 1:
            problems.append(
                f"{train.where}: {target} has the one class {next(iter(found))!r}; two are needed "
                "to learn"
            )
        elif not found:
            problems.append(f"{train.where}: {target} has no label at all")
        only_test = in_natural_order(
            label_names(table[target], multi_label=multi) - found - set(strange)
        )
        if only_test:
            message = (
                f"{target}: labels occur only in the test part: "
                f"{', '.join(only_test[:MOST_NAMED])}; "
                f"train rows do not have them ({nearest(only_test[0], sorted(found), most=4)})"
            )
            if faults is None:
                problems.append(message)
            else:
                rows = has_label(table[target], only_test, multi_label=multi)
                faults.append(Fault("label_only_in_test", message, tuple(table["path"][rows])))
                table.loc[rows, target] = None
    if faults is not None:
        faults += [Fault("data", problem) for problem in problems]
    elif problems:
        raise DataError("\n".join(problems))


def _lookalikes(target: str, names: Sequence[str], where: str) -> list[str]:
    by_form: dict[str, list[str]] = {}
    for name in names:
        form = unicodedata.normalize("NFC", name).lower()
        by_form.setdefault(" ".join(form.split()), []).append(name)
    same = next((found for found in by_form.values() if len(found) > 1), None)
    if same is None:
        return []
    look_equal = len({unicodedata.normalize("NFC", name) for name in same}) < len(same)
    pair = " and ".join(ascii(name) if look_equal else repr(name) for name in same)
    return [
        f"{where}: labels of {target} differ only in case, spaces or the encoding of accents: "
        f"{pair}; make them one, "
        "or name all classes in the recipe (classes) if they are not"
    ]


# --- choosing rows
# ---------------------------------------------------------------------------------------------------


def _keep(part: Part, data: DataSpec) -> Part:
    if data.keep is None:
        return part
    labels = part.table[data.target_names[0]]
    absent = [name for name in data.keep if name not in set(labels.dropna())]
    if absent:
        raise DataError(
            f"data.keep names {absent[0]!r}, which no row has; "
            f"{nearest(absent[0], labels.dropna().unique())}"
        )
    return part.choose(np.flatnonzero(labels.isin(data.keep)).tolist())


def _drawn(n: int, most: int) -> list[int]:
    order = np.random.default_rng(0).permutation(n)[:most]
    return sorted(int(i) for i in order)


def _limit(part: Part, data: DataSpec, most: int) -> Part:
    """At most `most` rows, each class with its share, drawn with a fixed seed.

    Sets count for their rarest label.
    """
    target = data.target_names[0]
    labels = part.table[target].to_numpy()
    if target in data.set_formats:
        labels = np.array(strata(labels.tolist(), 1), dtype=object)
    if most >= len(labels):
        return part
    rng = np.random.default_rng(0)
    rank = np.empty(len(labels))
    for name in pd.unique(labels):
        rows = np.flatnonzero(labels == name)
        rank[rng.permutation(rows)] = (np.arange(len(rows)) + 0.5) / len(rows)
    return part.choose(sorted(np.argsort(rank, kind="stable")[:most].tolist()))
