"""Labels that one member is trained on, of a handful of invented samples."""

import pandas as pd
import pytest
from pydantic import ValidationError

from ensembler.data.images import FileImages
from ensembler.data.labels import derive_labels
from ensembler.data.samples import SampleSet
from ensembler.data.spec import DataSpec, TargetSpec, TrainBins
from ensembler.data.train_labels import bins_that_count, cells_to_train_on
from ensembler.targets.composition import Composition

AGES = ["20", "29", "30", "57", "58", "59", "60", ""]
AGE = TargetSpec(bins=(30, 60), labels=("young", "middle", "old"))
SEX = ["m", "f", "m", "f", "m", "f", "m", "f"]


@pytest.fixture
def samples():
    read = pd.DataFrame({"age": AGES, "sex": SEX})
    rows = list(range(8))
    table = pd.DataFrame(
        {
            **derive_labels(read, "age", AGE, rows, "t").labels,
            **derive_labels(read, "sex", TargetSpec(), rows, "t").labels,
        }
    )
    classes = {"sex": ("f", "m"), "age": AGE.bin_labels}
    composed = Composition.build(
        "label", classes, separator="-", numbers=False, impossible=(), prior="none"
    )
    table["label"] = [
        composed.label(p) for p in zip(table["sex"], table["age"], strict=True)
    ]
    composed = composed.without(["f-old"])
    everything = {"label": composed.classes, **classes}
    return SampleSet(
        table, ("label", "sex", "age"), everything, FileImages([]), (), composed
    )


def trained(samples, target, **own):
    cells = cells_to_train_on(samples, {"age": AGE, "sex": TargetSpec()}, target, own)
    return cells.where(cells.notna(), None).tolist()


def test_without_training_bins_of_its_own_a_member_learns_the_labels_of_the_recipe(samples):
    assert trained(samples, "age") == samples.table["age"].tolist()
    samples.table["train:age"] = "old"
    assert trained(samples, "age") == ["old"] * 8


def test_a_member_may_move_the_borders_and_the_labels_that_are_scored_stay(samples):
    before = samples.table["age"].tolist()
    moved = trained(samples, "age", age=TrainBins(edges=(29, 58)))
    assert moved == ["young", *["middle"] * 3, *["old"] * 3, None]
    assert samples.table["age"].tolist() == before


def test_numbers_in_a_range_are_not_trained_on_its_ends_included(samples):
    left = trained(samples, "age", age=TrainBins(drop=[57, 59]))
    assert left == ["young", "young", "middle", None, None, None, "old", None]
    two = trained(samples, "age", age=TrainBins(drop=[[20, 20], [60, 99]]))
    assert [i for i, label in enumerate(two) if label is None] == [0, 6, 7]


def test_the_composed_class_follows_its_parts_and_what_is_no_class_is_left_out(samples):
    moved = trained(samples, "label", age=TrainBins(edges=(30, 58)))
    assert moved[4] == "m-old"
    assert moved[5] is None  # f-old is no class
    assert trained(samples, "sex", age=TrainBins(edges=(30, 58))) == SEX


def test_only_bins_of_what_a_target_is_made_of_count(samples):
    own = {"age": TrainBins(edges=(30, 58))}
    assert bins_that_count(samples, "label", own) == own
    assert bins_that_count(samples, "age", own) == own
    assert bins_that_count(samples, "sex", own) == {}


def test_training_bins_of_the_recipe_may_drop_rows_too():
    spec = AGE.model_validate({**AGE.model_dump(), "train_bins": {"drop": [57, 59]}})
    labels = derive_labels(pd.DataFrame({"age": AGES}), "age", spec, range(8), "t").labels
    assert labels["train:age"].isna().tolist() == [False] * 3 + [True] * 3 + [False, True]
    assert labels["age"].isna().sum() == 1


@pytest.mark.parametrize(
    ("train_bins", "message"),
    [
        ([30], "should have as many edges"),
        ([60, 30], "should rise"),
        ({"edges": [1, 2, 3]}, "should have as many edges"),
        ({"drop": [59, 57]}, "a lower and a higher"),
        ({"leave": [57, 59]}, "leave"),
    ],
)
def test_training_bins_that_cannot_be_are_refused(train_bins, message):
    with pytest.raises(ValidationError, match=message):
        TargetSpec(bins=(30, 60), train_bins=train_bins)


def test_training_bins_need_bins():
    with pytest.raises(ValidationError, match="needs bins"):
        TargetSpec(train_bins=[30])


def test_a_recipe_of_edges_is_written_as_before():
    data = DataSpec(source="m.csv", targets={"age": {"bins": [30], "train_bins": [28]}})
    dumped = data.model_dump(mode="json", exclude_none=True)["targets"]["age"]
    assert dumped["train_bins"] == [28.0]
