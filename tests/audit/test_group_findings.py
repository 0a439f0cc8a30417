"""Findings about groups, on tables without images."""

import pandas as pd

from ensembler.audit.columns import GroupLike
from ensembler.audit.group_findings import (
    find_split_groups,
    find_unused_groups,
    line_that_groups,
)
from ensembler.data.samples import SampleSet


def samples(groups, source=None):
    paths = [f"{i}.png" for i in range(len(groups))]
    table = pd.DataFrame({"id": paths, "path": paths, "source": source or "train"})
    return SampleSet(table.assign(group=groups), ("label",), {}, None)


def test_groups_that_stay_on_one_side_are_no_finding():
    assert list(find_split_groups(samples(["x", "x", "y"]), pd.Series([0, 0, 1]))) == []


def test_a_group_in_several_folds_is_an_error_with_its_files():
    (found,) = find_split_groups(samples(["x", "x", "y", "x"]), pd.Series([0, 1, 1, -1]))
    assert (found.code, found.severity) == ("group_leak", "error")
    assert found.files == ("0.png", "1.png", "3.png")
    assert found.facts == {"across": "folds"}


def test_a_group_in_train_and_in_test_is_a_warning():
    both = samples(["x", "y", "x"], source=["train", "train", "test"])
    (found,) = find_split_groups(both, None)
    assert (found.severity, found.facts["across"]) == ("warning", "train and test")
    assert found.files == ("0.png", "2.png")


def test_an_unused_group_is_a_warning_where_none_is_named():
    like = GroupLike("patient", 20, 6, 0.9)
    (found,) = find_unused_groups([like], None, 5)
    assert (found.severity, found.fix) == ("warning", "data: {group: patient}")
    assert "look more alike in 90% of pairs" in found.message
    (found,) = find_unused_groups([like], "person", 5)
    assert found.severity == "note"
    (found,) = find_unused_groups([GroupLike("site", 3, 9, 0.9, only_named=True)], None, 5)
    assert (found.severity, "alike" in found.message) == ("note", False)


def test_the_line_that_groups_sets_the_folds_where_there_are_fewer_values():
    assert line_that_groups(GroupLike("site", 3, 9, None), 5) == (
        "data: {group: site}, folds: {count: 3}"
    )
    by_path = GroupLike("group", 9, 9, None, pattern="{group}-{number}")
    assert (
        line_that_groups(by_path, 5) == "data: {pattern: '{group}-{number}', group: group}"
    )
