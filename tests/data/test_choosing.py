"""Rows that a recipe keeps, drops, or draws, without any image."""

import numpy as np
import pandas as pd
import pytest

from ensembler.data.choosing import choose_train_rows, drop_unwanted_labels, limit_rows
from ensembler.data.images import ArrayImages
from ensembler.data.parts import SourcePart
from ensembler.data.spec import DataSpec
from ensembler.errors import DataError


def part(**columns):
    table = pd.DataFrame({name: pd.Series(v, dtype=object) for name, v in columns.items()})
    images = ArrayImages(np.zeros((len(table), 2, 2), np.uint8), "made")
    return SourcePart(table, images, "m.csv")


def chosen(labels, **data):
    found = choose_train_rows(part(label=labels), DataSpec(source="m.csv", **data))
    return found.table["label"].tolist()


def test_classes_are_kept_dropped_or_too_rare():
    labels = ["a", "b", "c", "a", None]
    assert chosen(labels) == labels
    assert chosen(labels, keep=("a", "b")) == ["a", "b", "a"]
    assert chosen(labels, targets={"label": {"drop": ["b"]}}) == ["a", "c", "a", None]
    assert chosen(labels, targets={"label": {"min_count": 2}}) == ["a", "a", None]


@pytest.mark.parametrize(
    "data", [{"keep": ("a", "x")}, {"targets": {"label": {"drop": ["x"]}}}]
)
def test_a_class_that_no_row_has_is_named(data):
    with pytest.raises(DataError, match="names 'x', which no row has"):
        chosen(["a", "b"], **data)


def test_rare_combinations_leave_and_rows_with_an_unknown_part_stay():
    rows = part(mask=["on", "on", "off", None], age=["old", "old", "old", "new"])
    composed = {"of": ["mask", "age"], "min_count": 2}
    data = DataSpec(source="m.csv", targets=["mask", "age"], compose=composed)
    assert choose_train_rows(rows, data).table["mask"].tolist() == ["on", "on", None]


def test_of_sets_labels_leave_and_rows_stay():
    data = DataSpec(
        source="m.csv",
        targets={"tags": {"multi_label": " ", "drop": ["c"], "min_count": 2}},
    )
    train, test = part(tags=["a|b", "a|c", None]), part(tags=["b|a"])
    assert choose_train_rows(train, data) is train
    drop_unwanted_labels(train, test, data)
    assert train.table["tags"].dropna().tolist() == ["a", "a"]
    assert test.table["tags"].tolist() == ["a"]


def test_a_limit_keeps_the_shares_of_the_classes():
    labels = ["a"] * 60 + ["b"] * 30 + ["c"] * 10
    data = DataSpec(source="m.csv", limit=20, test_limit=3)
    train, test = limit_rows(part(label=labels), part(label=labels), data)
    assert train.table["label"].value_counts().to_dict() == {"a": 12, "b": 6, "c": 2}
    assert len(test.table) == 3
    again, _ = limit_rows(part(label=labels), None, data)
    assert again.table.equals(train.table)
