"""From the parts of a source to samples: what is kept of them, checked against each other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd

from ensembler.data.checks import check_ids, check_labels
from ensembler.data.choosing import choose_train_rows, drop_unwanted_labels, limit_rows
from ensembler.data.columns import FEATURE_PREFIX
from ensembler.data.compose import compose
from ensembler.data.corrections import Correction, correct_labels
from ensembler.data.faults import Fault, Remark
from ensembler.data.fold_file import add_given_folds
from ensembler.data.images import ChosenImages, Images, JoinedImages
from ensembler.data.labels import stated_order
from ensembler.data.parts import SourcePart
from ensembler.data.sources import read_source, read_test_part
from ensembler.data.spec import DataSpec, FoldSpec
from ensembler.errors import DataError
from ensembler.plain_text import check_plain_text
from ensembler.targets.composition import Composition
from ensembler.targets.label_sets import SetFormat
from ensembler.targets.natural_order import in_natural_order
from ensembler.targets.target import Target


@dataclass(frozen=True)
class SampleSet:
    """Samples with their images.

    `table` has a row for each sample: `id` (text, unique), `split` ("train" or "test"), `source`
    (as `split`), `path`, a column of label names for each target (None = unknown) and, when the
    recipe names them, `group`, `fold_given` and `feature:NAME`. Row i is image i. `classes` holds
    each target's class names in their order. A composed class is the first target; `train:NAME`
    beside a target holds the labels to train on where they differ; `weight` the sample weights. The
    targets in `set_formats` are multi-label: their column holds sets of labels. `remarks` are for
    the user, `corrections` say which labels are not those of the source.
    """

    table: pd.DataFrame
    targets: tuple[str, ...]
    classes: dict[str, tuple[str, ...]]
    images: Images
    left_out: tuple[str, ...] = field(default=())
    composition: Composition | None = None
    set_formats: dict[str, SetFormat] = field(default_factory=dict)
    remarks: tuple[Remark, ...] = ()
    corrections: tuple[Correction, ...] = ()

    def target(self, name: str) -> Target:
        """A target with its classes and kind."""
        return Target(name, self.classes[name], self.set_formats.get(name))

    def labels_below(self, target: str) -> pd.Series:
        """The labels of a target with their rows as index.

        A row with several at once comes as often as it has any.
        """
        labels = self.target(target).kind.one_by_one(self.table[target].tolist())
        return pd.Series(labels, index=self.table.index, dtype=object).explode().dropna()


def read_samples(
    data: DataSpec, folds: FoldSpec, faults: list[Fault] | None = None
) -> SampleSet:
    """Read the samples that a recipe names, and check everything that needs no pixel.

    With `faults` what can be read is read: rows that a run would refuse are left out and noted
    there.

    Raises DataError with every fault found: missing columns and images, duplicate ids, labels that
    are empty or only in the test part, a single class, paths that leave their root.
    """
    train, test, classes_of_source = read_source(data, folds, faults)
    train, corrections = correct_labels(train, data, tolerant=faults is not None)
    train = choose_train_rows(train, data)
    drop_unwanted_labels(train, test, data)
    train, test = limit_rows(train, test, data)
    parts = [train] if test is None else [train, test]
    table = pd.concat([part.table for part in parts], ignore_index=True)
    check_ids(table, data)
    _check_features(table, data)
    stated = _stated_classes(data, classes_of_source)
    targets = [
        _target(name, stated.get(name), train.table[name], data)
        for name in data.target_specs
    ]
    for name, spec in data.target_specs.items():
        labels = table[name].astype(object)
        table[name] = labels.where(labels.notna() & ~labels.isin(spec.drop), None)
    check_labels(table, targets, stated, train.where, faults)
    classes, composition = {target.name: target.classes for target in targets}, None
    if data.composition is not None:
        table, composition = compose(table, data, classes, table["split"] == "train")
        classes = {composition.name: composition.classes, **classes}
    remarks = [*chain.from_iterable(part.remarks for part in parts)]
    if folds.file is not None:
        remarks += add_given_folds(table, folds)
    for column in [name for name in ("id", "group", *data.label_names) if name in table]:
        check_plain_text(table[column], column, str(data.source))
    return SampleSet(
        table,
        data.label_names,
        classes,
        train.images if test is None else JoinedImages([train.images, test.images]),
        composition=composition,
        set_formats=data.set_formats,
        remarks=tuple(remarks),
        corrections=corrections,
    )


def _check_features(table: pd.DataFrame, data: DataSpec) -> None:
    """Raise DataError for columns that a source without columns cannot have."""
    for name in data.feature_names:
        column = f"{FEATURE_PREFIX}{name}"
        if column not in table or table[column].isna().any():
            raise DataError(
                f"data.features names {name!r}, and a part of the samples has no columns: it is a "
                "folder; name a manifest with the column as data.source and data.test"
            )


def _stated_classes(
    data: DataSpec, of_source: Mapping[str, tuple[str, ...]]
) -> dict[str, tuple[str, ...]]:
    """The classes of those targets whose source or recipe names them."""
    stated = {
        name: of_source.get(name) or stated_order(s)
        for name, s in data.target_specs.items()
    }
    if data.classes is not None:
        stated[data.target_names[0]] = data.classes
    return {name: classes for name, classes in stated.items() if classes}


def _target(
    name: str, stated: tuple[str, ...] | None, texts: pd.Series, data: DataSpec
) -> Target:
    found = stated or in_natural_order(data.kind(name).names_in(texts))
    return Target(name, found, data.set_formats.get(name))


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


def _without_columns(data: DataSpec) -> DataSpec:
    """What is read of new images: they come without groups and columns, from where they are."""
    return data.model_copy(update={"root": None, "group": None, "features": ()})


def read_unlabelled(source: Path, data: DataSpec) -> SourcePart:
    """New samples in a folder or a manifest (its columns named as in the recipe).

    Their ids are unique.
    """
    part = read_test_part(
        source, data.model_copy(update={"root": None, "group": None, "features": ()})
    )
    ids = part.table["id"]
    check_plain_text(ids, "id", str(source))
    if ids.duplicated().any():
        raise DataError(
            f"{source}: duplicate id {ids[ids.duplicated()].iloc[0]!r}: ids must be unique"
        )
    return part
