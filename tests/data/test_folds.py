import numpy as np
import pandas as pd
import pytest

from ensembler.data.folds import check_folds, split_samples
from ensembler.data.images import ArrayImages
from ensembler.data.samples import SampleSet
from ensembler.data.spec import FoldSpec
from ensembler.errors import DataError
from ensembler.targets.label_sets import SetFormat, indicators, labels_in, write_set
from ensembler.targets.target import Target


def samples(n=120, classes=3, groups=None, given=None, seed=0):
    rng = np.random.default_rng(seed)
    labels = [f"c{i}" for i in rng.permutation(np.arange(n) % classes)]
    table = pd.DataFrame(
        {
            "id": [f"i{i}" for i in range(n)],
            "split": "train",
            "source": "train",
            "path": "",
            "label": labels,
        }
    )
    if groups:
        table["group"] = [f"g{i}" for i in rng.integers(0, groups, n)]
    if given is not None:
        table["fold_given"] = given
    images = ArrayImages(np.zeros((n, 2, 2), np.uint8), "x")
    return SampleSet(table, ("label",), {"label": tuple(sorted(set(labels)))}, images)


@pytest.mark.parametrize(
    ("spec", "groups"),
    [
        ({}, None),
        ({"scheme": "plain"}, None),
        ({}, 30),
        ({"scheme": "group"}, 30),
        ({"scheme": "stratified-group", "count": 3}, 30),
        ({"holdout": 0.2}, None),
        ({"holdout": 0.2}, 40),
    ],
)
def test_every_row_is_validated_once_and_groups_never_straddle(spec, groups):
    table = split_samples(samples(groups=groups), FoldSpec(**spec)).table
    train, test = table[table["split"] == "train"], table[table["split"] == "test"]
    count = spec.get("count", 5)
    assert set(train["fold"]) == set(range(count))
    assert (test["fold"] == -1).all()
    assert len(test) == pytest.approx(120 * spec.get("holdout", 0), abs=12)
    for fold in range(count):
        assert set(train["label"][train["fold"] != fold]) == {"c0", "c1", "c2"}
    if groups:
        assert (train.groupby("group")["fold"].nunique() == 1).all()
        assert not set(train["group"]) & set(test["group"])


def test_stratified_folds_have_equal_shares_of_the_classes():
    table = split_samples(samples(), FoldSpec()).table
    assert pd.crosstab(table["label"], table["fold"]).to_numpy().std() == 0


def test_a_seed_decides_the_split():
    one, again, other = (
        split_samples(samples(), FoldSpec(seed=s)).table["fold"].tolist() for s in (1, 1, 2)
    )
    assert one == again != other


def test_repeated_folds_are_several_columns():
    table = split_samples(samples(), FoldSpec(scheme="repeated", repeats=3)).table
    assert [c for c in table if c.startswith("fold")] == ["fold", "fold_r2", "fold_r3"]
    assert (table["fold"] != table["fold_r2"]).any()


def test_a_single_split_validates_one_share():
    table = split_samples(samples(), FoldSpec(scheme="single", share=0.25)).table
    assert table["fold"].value_counts().to_dict() == {-1: 90, 0: 30}


def test_given_folds_are_taken_as_they_are():
    given = np.arange(120) % 4
    assert (
        split_samples(samples(given=given), FoldSpec(scheme="column", column="f"))
        .table["fold"]
        .tolist()
        == given.tolist()
    )
    with pytest.raises(DataError, match=r"holds folds \[0, 2\]; expected 0, 1"):
        split_samples(samples(given=given % 2 * 2), FoldSpec(scheme="column", column="f"))


def test_given_folds_that_tear_a_group_apart_are_refused():
    with pytest.raises(DataError, match="groups are in several folds"):
        split_samples(
            samples(groups=10, given=np.arange(120) % 4),
            FoldSpec(scheme="column", column="f"),
        )


@pytest.mark.parametrize(
    ("made", "spec", "message"),
    [
        (
            samples(12, 3),
            {"count": 5},
            r"5 folds, but class 'c\d' of label has 4 rows .*lower folds.count",
        ),
        (samples(40, 2, groups=3), {"count": 5}, "5 folds, but there are 3 groups"),
        (samples(), {"scheme": "group"}, "needs groups; name their column with data.group"),
        (samples(6, 3), {"holdout": 0.1, "count": 2}, "cannot be taken in equal shares"),
    ],
)
def test_a_split_that_cannot_be_is_refused_with_the_counts(made, spec, message):
    with pytest.raises(DataError, match=message):
        split_samples(made, FoldSpec(**spec))


def test_a_class_in_one_group_alone_is_named_with_its_counts():
    made = samples(60, 2)
    made.table["group"] = [
        f"g{i % 6}" if label == "c0" else "lonely"
        for i, label in enumerate(made.table["label"])
    ]
    with pytest.raises(
        DataError, match=r"all rows of class 'c1' are in fold \d .*never sees the class"
    ):
        split_samples(made, FoldSpec(count=3))


def test_an_empty_fold_is_found():
    table = split_samples(samples(), FoldSpec()).table
    table["fold"] = table["fold"].replace(2, 3)
    with pytest.raises(DataError, match="leaves fold 2 empty"):
        check_folds(table, Target("label", ()))


def tagged_samples(sets, groups=None):
    table = pd.DataFrame(
        {
            "id": [f"s{i}" for i in range(len(sets))],
            "split": "train",
            "source": "train",
            "tags": sets,
        }
    )
    if groups is not None:
        table["group"] = groups
    names = tuple(sorted(labels_in(sets)))
    return SampleSet(
        table, ("tags",), {"tags": names}, None, set_formats={"tags": SetFormat(" ")}
    )


@pytest.mark.parametrize("grouped", [False, True])
def test_every_label_of_sets_is_spread_over_the_folds(grouped):
    rng = np.random.default_rng(0)
    shares = {"a": 0.6, "b": 0.4, "c": 0.1, "d": 0.04}
    sets = [
        write_set(name for name, share in shares.items() if rng.random() < share)
        for _ in range(600)
    ]
    samples = tagged_samples(sets, [f"g{i // 3}" for i in range(600)] if grouped else None)
    table = split_samples(samples, FoldSpec(count=5, holdout=0.2)).table
    assert table.set_index("id")["tags"].to_dict() == dict(
        zip(samples.table["id"], sets, strict=True)
    )
    train = table[table["split"] == "train"]
    held_out = table[table["split"] == "test"]
    assert 0.15 < len(held_out) / 600 < 0.25
    counts = (
        pd.DataFrame(indicators(train["tags"], list(shares)))
        .groupby(train["fold"].to_numpy())
        .sum()
    )
    assert (counts.max() <= counts.min() * (2.5 if grouped else 1.5) + 2).all()
    if not grouped:
        assert (
            counts[3].max() - counts[3].min() <= 1
        )  # the rarest label is dealt out evenly


def test_a_label_whose_rows_all_lie_in_one_fold_is_an_error_that_names_it():
    sets = ["a|b", "a", "b", "a", "b", "a", "a|rare"]
    with pytest.raises(DataError, match="all 1 rows of 'rare' are in fold"):
        split_samples(tagged_samples(sets), FoldSpec(count=2))


def test_given_folds_may_hold_all_rows_without_a_label():
    sets = ["|"] * 4 + ["a|b", "a", "b", "a|b", "b", "a"]
    samples = tagged_samples(sets)
    samples.table["fold_given"] = [0] * 4 + [0, 1, 0, 1, 1, 0]
    table = split_samples(samples, FoldSpec(scheme="column", column="f")).table
    assert table["fold"].tolist() == samples.table["fold_given"].tolist()
