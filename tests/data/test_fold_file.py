"""Folds that a team fixed in a file."""

import pandas as pd
import pytest
from pydantic import ValidationError

from ensembler.data.fold_file import add_given_folds
from ensembler.data.spec import FoldSpec
from ensembler.errors import DataError


def samples(n=6):
    ids = [f"i{k}" for k in range(n)]
    return pd.DataFrame({"id": ids, "split": ["train"] * (n - 1) + ["test"]})


def folds_in(path, rows, columns=("id", "split", "fold")):
    pd.DataFrame(rows, columns=list(columns)).to_csv(path, index=False)
    return FoldSpec.model_validate(str(path))


def test_folds_are_matched_by_id_and_other_rows_are_held_out(tmp_path):
    rows = [(f"i{k}", "train", k % 2) for k in (4, 3, 2, 1)] + [("i0", "holdout", "")]
    table = samples()
    assert add_given_folds(table, folds_in(tmp_path / "folds.csv", rows)) == ()
    assert table["fold_given"].tolist() == [-1, 1, 0, 1, 0, -1]
    assert table["held_out_given"].tolist() == [True, *[False] * 5]


def test_a_sample_without_a_fold_is_named(tmp_path):
    spec = folds_in(tmp_path / "folds.csv", [("i0", "train", 0), ("i1", "train", 1)])
    with pytest.raises(DataError, match="lacks 3 of the 5 train rows, such as 'i2'"):
        add_given_folds(samples(), spec)


@pytest.mark.parametrize("fold", ["one", "0.5", "-2", "1e400"])
def test_what_is_no_fold_is_named(tmp_path, fold):
    rows = [(f"i{k}", "train", 0) for k in range(4)] + [("i4", "train", fold)]
    with pytest.raises(DataError, match="fold of 'i4' is"):
        add_given_folds(samples(), folds_in(tmp_path / "folds.csv", rows))


def test_an_id_that_comes_twice_is_refused_and_a_strange_one_is_said(tmp_path):
    rows = [(f"i{k}", "train", 0) for k in range(5)]
    with pytest.raises(DataError, match="duplicate id 'i0'"):
        add_given_folds(samples(), folds_in(tmp_path / "twice.csv", [*rows, rows[0]]))
    spec = folds_in(tmp_path / "more.csv", [*rows, ("other", "train", 1)])
    (remark,) = add_given_folds(samples(), spec)
    assert "1 samples that the data do not have, such as 'other'" in remark.message


def test_a_file_and_options_of_a_draw_do_not_go_together():
    with pytest.raises(ValidationError, match="file says all of the split"):
        FoldSpec.model_validate({"file": "folds.csv", "holdout": 0.2})
    written_out = FoldSpec(file="folds.csv").model_dump(exclude_none=True)
    assert FoldSpec.model_validate(written_out).file == "folds.csv"
