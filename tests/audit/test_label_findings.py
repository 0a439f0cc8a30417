"""Findings about labels, on tables without images."""

import pandas as pd

from ensembler.audit.label_findings import find_label_problems
from ensembler.data.samples import SampleSet
from ensembler.targets.label_sets import SetFormat


def findings(train, test=(), form=None, classes=("a", "b")):
    splits = ["train"] * len(train) + ["test"] * len(test)
    labels = pd.Series([*train, *test], dtype=object)
    paths = [f"{i}.png" for i in range(len(labels))]
    table = pd.DataFrame({"id": paths, "path": paths, "split": splits, "label": labels})
    forms = {} if form is None else {"label": form}
    samples = SampleSet(table, ("label",), {"label": classes}, None, set_formats=forms)
    return {one.code: one for one in find_label_problems(samples, n_folds=3)}


def test_balanced_classes_are_no_finding():
    assert findings(["a"] * 20 + ["b"] * 20, ["a", "b"]) == {}


def test_a_rare_class_is_named_with_its_files_and_its_fix():
    found = findings(["a"] * 20 + ["b"] * 4)["rare_class"]
    assert found.files == ("20.png", "21.png", "22.png", "23.png")
    assert found.facts == {"target": "label", "classes": ["b"]}
    assert found.fix == "data: {targets: {label: {min_count: 10}}}"


def test_of_sets_each_label_counts():
    found = findings(["a|b"] * 3 + ["a"] * 20, form=SetFormat(" "))["rare_class"]
    assert found.facts["classes"] == ["b"]
    assert found.files == ("0.png", "1.png", "2.png")


def test_imbalance_is_a_note_with_its_ratio():
    found = findings(["a"] * 200 + ["b"] * 10)["imbalance"]
    assert (found.severity, found.facts["ratio"]) == ("note", 20.0)


def test_a_label_that_no_labelled_test_row_has_is_a_note():
    found = findings(["a"] * 20 + ["b"] * 20, ["a", None])["label_only_in_train"]
    assert found.facts["classes"] == ["b"]
    assert "label_only_in_train" not in findings(["a"] * 20 + ["b"] * 20, [None])
