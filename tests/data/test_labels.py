import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pydantic import ValidationError

from ensembler.data.samples import read_samples
from ensembler.data.spec import DataSpec, FoldSpec, TargetSpec
from ensembler.errors import DataError


@pytest.fixture
def table():
    rows = []
    for i in range(24):
        rows.append(
            {
                "path": f"p{i // 4:03d}_{'male' if i % 8 < 4 else 'female'}_{20 + 2 * i}/{i % 4}.png",
                "mask": ["worn", "none", "wrong", "worn"][i % 4],
                "gender": "male" if i % 8 < 4 else "female",
                "age": str(20 + 2 * i),
            }
        )
    return pd.DataFrame(rows)


@pytest.fixture
def read(table, tmp_path):
    def read(change=lambda t: t, test=None, **data):
        for path in table["path"]:
            (tmp_path / path).parent.mkdir(exist_ok=True)
            Image.new("RGB", (8, 8)).save(tmp_path / path)
        change(table).to_csv(tmp_path / "m.csv", index=False)
        if test is not None:
            test.to_csv(tmp_path / "t.csv", index=False)
            data["test"] = str(tmp_path / "t.csv")
        return read_samples(
            DataSpec.model_validate({"source": str(tmp_path / "m.csv"), **data}), FoldSpec()
        )

    return read


def test_bins_make_classes_in_their_order_and_an_edge_belongs_to_the_bin_above(read):
    samples = read(targets={"age": {"bins": [30, 60]}})
    assert samples.classes["age"] == ("<30", "30-60", ">=60")
    ages = 20 + 2 * np.arange(24)
    expected = np.where(ages < 30, "<30", np.where(ages < 60, "30-60", ">=60"))
    assert samples.table["age"].tolist() == expected.tolist()
    assert samples.table["age"].tolist()[5] == "30-60"  # exactly 30


def test_bins_may_be_named_and_read_another_column(read):
    samples = read(
        targets={"years": {"from": "age", "bins": [40], "labels": ["young", "old"]}}
    )
    assert samples.targets == ("years",)
    assert set(samples.table["years"]) == {"young", "old"}


def test_training_bins_change_only_the_labels_that_are_trained_on(read):
    plain = read(targets={"age": {"bins": [30, 60]}})
    moved = read(targets={"age": {"bins": [30, 60], "train_bins": [30, 58]}})
    assert moved.table["age"].tolist() == plain.table["age"].tolist()
    different = moved.table["train:age"] != moved.table["age"]
    assert (
        moved.table["path"][different].tolist() == plain.table["path"][19:20].tolist()
    )  # 58 years old
    assert moved.table["train:age"][19] == ">=60"


def test_a_map_renames_and_merges(read):
    samples = read(targets={"mask": {"map": {"worn": "yes", "none": "no", "wrong": "no"}}})
    assert samples.classes["mask"] == ("yes", "no")
    assert samples.table["mask"].tolist()[:4] == ["yes", "no", "no", "yes"]
    kept = read(targets={"mask": {"map": {"wrong": "none"}, "others": "keep"}})
    assert kept.classes["mask"] == ("none", "worn")


def test_dropped_and_rare_classes_leave_the_train_rows(read):
    assert len(read(targets={"mask": {"drop": ["wrong"]}}).table) == 18


def test_a_rare_class_is_left_out(read):
    odd = lambda t: t.assign(mask=t["mask"].where(t.index != 3, "odd"))  # noqa: E731
    samples = read(odd, targets={"mask": {"min_count": 2}})
    assert len(samples.table) == 23
    assert "odd" not in samples.classes["mask"]


def test_fields_of_the_path_count_as_columns(read):
    samples = read(
        lambda t: t[["path", "mask"]],
        pattern="{person}_{sex}_{years:int}/",
        targets={"sex": None, "years": {"bins": [40]}, "mask": None},
        group="person",
    )
    assert samples.table["group"].tolist()[::4] == [f"p{i:03d}" for i in range(6)]
    assert samples.classes["sex"] == ("female", "male")
    assert samples.classes["years"] == ("<40", ">=40")


def test_a_folder_with_a_pattern_needs_no_class_folders(read, tmp_path):
    read(targets="mask")
    (tmp_path / "m.csv").unlink()
    spec = DataSpec(
        source=str(tmp_path),
        pattern="{person}_{sex}_{years:int}/",
        targets="sex",
        group="person",
    )
    samples = read_samples(spec, FoldSpec())
    assert len(samples.table) == 24
    assert samples.classes == {"sex": ("female", "male")}


COMPOSED = {"targets": {"mask": None, "gender": None, "age": {"bins": [40]}}}


def test_tasks_compose_one_class_in_the_stated_order(read):
    samples = read(**COMPOSED, compose=["mask", "gender", "age"])
    assert samples.targets == ("label", "mask", "gender", "age")
    assert len(samples.classes["label"]) == 3 * 2 * 2
    assert samples.classes["label"][:3] == (
        "none-female-<40",
        "none-female->=40",
        "none-male-<40",
    )
    assert samples.table["label"].tolist()[0] == "worn-male-<40"
    numbered = read(
        **COMPOSED, compose={"of": ["gender", "mask"], "numbers": True, "name": "class"}
    )
    assert numbered.classes["class"] == tuple(str(i) for i in range(6))
    assert (
        numbered.table["class"].tolist()[0] == "4"
    )  # male is 1 of 2, worn 1 of none, worn, wrong


def test_impossible_combinations_are_no_classes_and_a_row_that_has_one_is_an_error(read):
    rules = [{"mask": "wrong", "gender": "male"}]
    without = lambda t: t[~((t["mask"] == "wrong") & (t["gender"] == "male"))]  # noqa: E731
    samples = read(
        without, **COMPOSED, compose={"of": ["mask", "gender"], "exclude": rules}
    )
    assert len(samples.classes["label"]) == 5
    with pytest.raises(
        DataError,
        match=r"is wrong, male, a combination that data.compose.exclude calls impossible",
    ):
        read(**COMPOSED, compose={"of": ["mask", "gender"], "exclude": rules})
    with pytest.raises(
        DataError, match="exclude: mask has no class 'wron'; did you mean 'wrong'"
    ):
        read(**COMPOSED, compose={"of": ["mask", "gender"], "exclude": [{"mask": "wron"}]})


def test_unseen_combinations_can_be_left_out(read):
    without = lambda t: t[~((t["mask"] == "wrong") & (t["gender"] == "male"))]  # noqa: E731
    samples = read(
        without, **COMPOSED, compose={"of": ["mask", "gender"], "unseen": "exclude"}
    )
    assert "wrong-male" not in samples.classes["label"]


def test_training_bins_reach_the_composed_class(read):
    tasks = {"gender": None, "age": {"bins": [60], "train_bins": [58]}}
    samples = read(targets=tasks, compose=["gender", "age"])
    assert samples.table["label"][19] == "male-<60"
    assert samples.table["train:label"][19] == "male->=60"


def test_unknown_labels_of_one_task_are_allowed_by_option(read):
    hole = lambda t: t.assign(age=t["age"].where(t.index != 3, ""))  # noqa: E731
    with pytest.raises(DataError, match="age is empty in row 5"):
        read(hole, **COMPOSED)
    samples = read(hole, **COMPOSED, compose=["mask", "gender", "age"], unlabelled="allow")
    assert samples.table["age"][3] is None
    assert samples.table["label"][3] is None
    assert samples.table["mask"][3] == "worn"


def test_labels_of_the_test_part_are_composed_too(read, table):
    test = table.head(2).assign(id=["a", "b"])
    samples = read(lambda t: t, test=test, **COMPOSED, compose=["mask", "gender", "age"])
    assert samples.table["label"].tolist()[-2:] == ["worn-male-<40", "none-male-<40"]


@pytest.mark.parametrize(
    ("change", "data", "message"),
    [
        (lambda t: t.assign(age=t["age"].where(t.index != 3, "old")), {"targets": {"age": {"bins": [30]}}},
         "row 5: age is 'old', expected a number"),
        (lambda t: t, {"targets": {"mask": {"map": {"worn": "yes", "none": "no"}}}},
         "row 4: mask is 'wrong', which the map does not list.*others: keep"),
        (lambda t: t, {"targets": {"mask": {"drop": ["wrng"]}}}, "drop names 'wrng', which no row "
                                                                 "has; did you mean 'wrong'"),
        (lambda t: t, {"targets": {"a": {"from": "agee"}}}, "no column 'agee' .*did you "
                                                            "mean 'age'"),
        (lambda t: t, {"targets": "x", "pattern": "{x}={y}/"}, "row 2: path 'p000_male_20/0.png' "
                                                               "does not match"),
        (lambda t: t, {"targets": "gender", "pattern": "{mask}_{b}_{c}/"}, "has a column "
                                                                           "'mask' already"),
        (lambda t: t, {"targets": ["mask", "gender"], "compose": {"of": ["mask", "gender"], "separator": ""},
                       "keep": ["worn", "none"]}, None),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named_with_its_row(read, change, data, message):
    if message is None:
        assert len(read(change, **data).classes["label"]) == 4
        return
    with pytest.raises(DataError, match=message):
        read(change, **data)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"bins": [60, 30]}, "should rise"),
        ({"bins": [30], "train_bins": [30, 58]}, "as many edges as bins"),
        ({"bins": [30], "labels": ["a"]}, "one more name than edges"),
        ({"bins": [30], "map": {"a": "b"}}, "keep one"),
        ({"others": "keep"}, "there is no map"),
    ],
)
def test_a_target_that_contradicts_itself_is_refused(spec, message):
    with pytest.raises(ValidationError, match=message):
        TargetSpec.model_validate(spec)


def test_compose_names_targets_only():
    with pytest.raises(ValidationError, match="compose names 'agee', which is no target"):
        DataSpec.model_validate(
            {"source": "x", "targets": ["age", "mask"], "compose": ["agee", "mask"]}
        )


def test_rare_combinations_can_be_left_out_rows_and_classes(read):
    parts = {"mask": {}, "gender": {}}
    everything = read(lambda t: t[:-2], targets=parts, compose={"of": ["mask", "gender"]})
    sizes = everything.table["label"].value_counts()
    assert sizes.sort_values().index[0] == "wrong-female"
    kept = read(
        lambda t: t[:-2], targets=parts, compose={"of": ["mask", "gender"], "min_count": 3}
    )
    assert (
        set(kept.classes["label"])
        == set(kept.table["label"])
        == set(sizes.index) - {"wrong-female"}
    )
    assert len(kept.table) == len(everything.table) - sizes["wrong-female"]
    assert kept.classes["mask"] == everything.classes["mask"]


def tagged(table):
    tags = ["dog cat", "dog", "cat", "none"]
    return table.assign(
        tags=[tags[i % 4] + (" eel" if i < 3 else "") for i in range(len(table))]
    )


def test_a_column_with_several_labels_at_once_becomes_sets(read):
    samples = read(tagged, targets={"tags": {"multi_label": " ", "no_label": "none"}})
    assert samples.classes["tags"] == ("cat", "dog", "eel")
    assert samples.table["tags"].tolist()[:5] == [
        "cat|dog|eel",
        "dog|eel",
        "cat|eel",
        "|",
        "cat|dog",
    ]
    assert samples.labels_below("tags").value_counts().to_dict() == {
        "cat": 12,
        "dog": 12,
        "eel": 3,
    }


def test_of_several_labels_at_once_drop_and_min_count_leave_out_labels_and_no_row(read):
    for options in ({"min_count": 4}, {"drop": ["eel"]}):
        samples = read(
            tagged, targets={"tags": {"multi_label": " ", "no_label": "none", **options}}
        )
        assert samples.classes["tags"] == ("cat", "dog")
        assert len(samples.table) == 24
        assert samples.table["tags"].tolist()[:3] == ["cat|dog", "dog", "cat"]


def test_an_empty_cell_is_unknown_unless_it_is_said_to_mean_none(read):
    def emptied(table):
        return tagged(table).assign(tags=lambda t: t["tags"].replace("none", ""))

    with pytest.raises(
        DataError,
        match=r"tags is empty .no_label: '' says that this means none of the labels. in row",
    ):
        read(emptied, targets={"tags": {"multi_label": " "}})
    samples = read(emptied, targets={"tags": {"multi_label": " "}}, unlabelled="allow")
    assert samples.table["tags"].isna().sum() == 6
    samples = read(emptied, targets={"tags": {"multi_label": " ", "no_label": ""}})
    assert (samples.table["tags"] == "|").sum() == 6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bins": [3]}, "leave bins and map out"),
        ({"map": {"a": "b"}}, "leave bins and map out"),
        ({"multi_label": None, "no_label": "x"}, "goes with multi_label"),
    ],
)
def test_options_that_sets_of_labels_cannot_take_are_refused(options, message):
    with pytest.raises(ValidationError, match=message):
        TargetSpec.model_validate({"multi_label": " ", **options})


def test_sets_of_labels_are_no_part_of_a_composed_class(read):
    with pytest.raises(ValidationError, match="has several labels at once"):
        read(
            tagged,
            targets={"tags": {"multi_label": " "}, "mask": None},
            compose=["tags", "mask"],
        )
    with pytest.raises(ValidationError, match="keep chooses rows by their one label"):
        read(tagged, targets={"tags": {"multi_label": " "}}, keep=["cat", "dog"])


def test_labels_of_sets_are_checked_like_others(read):
    with pytest.raises(DataError, match="labels that its classes do not name: eel"):
        read(
            tagged,
            targets={
                "tags": {"multi_label": " ", "no_label": "none", "classes": ["cat", "dog"]}
            },
        )
    with pytest.raises(DataError, match="drop names 'emu'"):
        read(
            tagged,
            targets={"tags": {"multi_label": " ", "no_label": "none", "drop": ["emu"]}},
        )
    with pytest.raises(DataError, match=r"'dog.eel' has a . in it"):
        read(
            lambda t: tagged(t).assign(tags="cat dog|eel"),
            targets={"tags": {"multi_label": " "}},
        )


def test_a_limit_is_drawn_after_labels_are_left_out_and_by_the_rarest_label(read):
    options = {"multi_label": " ", "no_label": "none", "min_count": 4}
    samples = read(tagged, targets={"tags": options}, limit=12)
    assert samples.classes["tags"] == ("cat", "dog")
    assert len(samples.table) == 12
    assert set(samples.table["id"]) != set(
        read(tagged, targets={"tags": options}).table["id"][:12]
    )


def test_an_empty_cell_of_a_test_row_is_unknown_whatever_it_means_in_train(read):
    def emptied(table):
        split = ["test" if i >= 20 else "train" for i in range(len(table))]
        return tagged(table).assign(
            split=split, tags=lambda t: t["tags"].replace("none", "")
        )

    samples = read(
        emptied, targets={"tags": {"multi_label": " ", "no_label": ""}}, split="split"
    )
    by_split = samples.table.groupby("split")["tags"]
    assert by_split.apply(lambda tags: tags.isna().sum()).to_dict() == {
        "test": 1,
        "train": 0,
    }
