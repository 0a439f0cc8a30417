"""Findings about copies, on tables without images."""

import pandas as pd

from ensembler.audit.duplicate_findings import find_copies
from ensembler.audit.duplicates import Duplicates
from ensembler.data.samples import SampleSet


def findings(exact=(), near=(), folds=None, labels="aaaa", source="train"):
    paths = [f"{i}.png" for i in range(4)]
    table = pd.DataFrame(
        {"id": paths, "path": paths, "source": source, "label": list(labels)}
    )
    samples = SampleSet(table, ("label",), {}, None)
    found = find_copies(samples, Duplicates(tuple(exact), tuple(near)), folds)
    return {one.code: one for one in found}


def test_copies_in_one_fold_are_a_note():
    found = findings(exact=[(0, 1)], folds=pd.Series([0, 0, 1, 1]))
    assert set(found) == {"duplicate"}
    assert found["duplicate"].severity == "note"
    assert found["duplicate"].files == ("0.png", "1.png")


def test_copies_across_folds_or_parts_are_a_warning_and_counted():
    found = findings(near=[(0, 2), (1, 3)], folds=pd.Series([0, 1, 1, -1]))[
        "near_duplicate"
    ]
    assert (found.severity, found.facts["across_folds"]) == ("warning", 1)
    parts = ["train", "train", "test", "train"]
    found = findings(exact=[(0, 2)], source=parts)["duplicate"]
    assert found.facts["across_train_and_test"] == 1
    assert found.facts["sets"] == [["0.png", "2.png"]]


def test_copies_whose_labels_contradict_are_named_once():
    found = findings(exact=[(0, 1)], near=[(0, 1), (2, 3)], labels="abaa")
    assert found["duplicate_other_label"].files == ("0.png", "1.png")
    assert found["duplicate_other_label"].facts["sets"] == [["0.png", "1.png"]]
