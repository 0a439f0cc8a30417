import numpy as np
import pandas as pd
import pytest

from ensembler.data.folds import check_folds, split_samples
from ensembler.data.images import ArrayImages
from ensembler.data.samples import SampleSet
from ensembler.data.spec import FoldSpec
from ensembler.errors import DataError


def samples(n=120, classes=3, groups=None, given=None, seed=0):
    rng = np.random.default_rng(seed)
    labels = [f"c{i}" for i in rng.permutation(np.arange(n) % classes)]
    table = pd.DataFrame(
        {"id": [f"i{i}" for i in range(n)], "split": "train", "source": "train", "path": "", "label": labels}
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
    one, again, other = (split_samples(samples(), FoldSpec(seed=s)).table["fold"].tolist() for s in (1, 1, 2))
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
        split_samples(samples(given=given), FoldSpec(scheme="column", column="f")).table["fold"].tolist()
        == given.tolist()
    )
    with pytest.raises(DataError, match=r"holds folds \[0, 2\]; expected 0, 1"):
        split_samples(samples(given=given % 2 * 2), FoldSpec(scheme="column", column="f"))


def test_given_folds_that_tear_a_group_apart_are_refused():
    with pytest.raises(DataError, match="groups lie in several folds"):
        split_samples(samples(groups=10, given=np.arange(120) % 4), FoldSpec(scheme="column", column="f"))


@pytest.mark.parametrize(
    ("made", "spec", "message"),
    [
        (samples(12, 3), {"count": 5}, r"5 folds, but class 'c\d' of label has 4 rows .*lower folds.count"),
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
    made.table["group"] = [f"g{i % 6}" if label == "c0" else "lonely" for i, label in enumerate(made.table["label"])]
    with pytest.raises(DataError, match=r"all rows of class 'c1' lie in fold \d .*never sees the class"):
        split_samples(made, FoldSpec(count=3))


def test_an_empty_fold_is_found():
    table = split_samples(samples(), FoldSpec()).table
    table["fold"] = table["fold"].replace(2, 3)
    with pytest.raises(DataError, match="leaves fold 2 empty"):
        check_folds(table, "label")
