import numpy as np
import pytest

from ensembler.errors import MissingFileError, StoreError
from ensembler.predictions.samples import read_samples_csv
from ensembler.targets.target import Target

GOOD = """\
id,split,source,fold,label,group
1,train,train,0,a,g
2,train,train,1,NA,h
03,test,test,-1,,
4,test,train,-1,a,i
"""


@pytest.fixture
def write(tmp_path):
    def write(text):
        (tmp_path / "samples.csv").write_text(text)
        return tmp_path / "samples.csv"

    return write


def test_ids_and_labels_are_text_even_when_they_look_like_numbers_or_missing_values(write):
    samples = read_samples_csv(write(GOOD))
    assert samples.table["id"].tolist() == ["1", "2", "03", "4"]
    assert samples.train["label"].tolist() == ["a", "NA"]
    assert samples.test["label"].tolist() == [None, "a"]
    assert samples.targets == ("label",)


def test_a_label_is_one_object_in_however_many_rows(write):
    cells = read_samples_csv(write(GOOD)).table["label"].tolist()
    assert len({id(cell) for cell in cells if cell == "a"}) == 1
    assert cells.count("a") > 1


def test_labels_become_indices_and_unknown_ones_minus_one(write):
    samples = read_samples_csv(write(GOOD))
    assert samples.labels(Target("label", ("NA", "a")), "train").tolist() == [1, 0]
    assert samples.labels(Target("label", ("NA", "a")), "test").tolist() == [-1, 1]
    with pytest.raises(StoreError, match="label 'NA' of target 'label' is not a class"):
        samples.labels(Target("label", ("a", "b")), "train")


def test_held_out_rows_are_submitted_only_without_a_test_part(write):
    assert read_samples_csv(write(GOOD)).to_submit.tolist() == [True, False]
    assert read_samples_csv(
        write(GOOD.replace("03,test,test", "03,test,train"))
    ).to_submit.tolist() == [True, True]


def test_folds_and_groups_are_numbers_by_row(write):
    samples = read_samples_csv(write(GOOD))
    assert samples.folds().tolist() == [0, 1]
    groups = samples.groups()
    assert groups is not None
    assert len(np.unique(groups)) == 2


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("2,train", "1,train", "row 3: duplicate id '1'; ids must be unique"),
        ("2,train,train,1", "2,valid,train,1", "row 3: split is 'valid'"),
        ("2,train,train,1", "2,train,train,x", "row 3: fold is 'x'"),
        ("1,NA,h", "1,NA,g", "group 'g' is in several folds"),
        ("fold,label", "fould,label", "no column 'fold'"),
    ],
)
def test_a_table_that_does_not_fit_is_refused_with_its_row(write, old, new, message):
    assert old in GOOD
    with pytest.raises(StoreError, match=message):
        read_samples_csv(write(GOOD.replace(old, new)))


def test_a_missing_table_says_what_it_is_for(tmp_path):
    with pytest.raises(MissingFileError, match="no prediction of the run can be matched"):
        read_samples_csv(tmp_path / "samples.csv")


def test_a_run_that_is_looked_at_again_shows_what_is_new_and_reads_its_rows_once(fake_run):
    assert "late" not in fake_run.complete_members
    first = fake_run.samples
    fake_run.member_folder("a").rename(fake_run.member_folder("late"))
    now = fake_run.again()
    assert now.samples is first
    assert "late" in now.complete_members
