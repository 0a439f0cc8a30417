"""Drawn data sets."""

import filecmp

import pandas as pd

from ensembler.demo.shapes import SHAPES, write_shapes


def test_the_same_seed_writes_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name / "shapes").mkdir(parents=True)
        write_shapes(tmp_path / name / "shapes", n=24, seed=3, groups=True, odd=True)
    one, two = (tmp_path / name / "shapes" for name in ("one", "two"))
    names = sorted(
        str(p.relative_to(one))
        for p in one.rglob("*")
        if p.is_file() and p.name != "recipe.yaml"
    )
    assert len(names) > 24
    assert filecmp.cmpfiles(one, two, names, shallow=False)[0] == names


def test_another_seed_draws_other_images(tmp_path):
    write_shapes(tmp_path / "a", n=10, seed=0)
    write_shapes(tmp_path / "b", n=10, seed=1)
    first = "images/00000.png"
    assert (tmp_path / "a" / first).read_bytes() != (tmp_path / "b" / first).read_bytes()


def test_tables_name_files_that_are_there_and_the_answers_of_the_test_rows(tmp_path):
    assert write_shapes(tmp_path, n=60, seed=0, groups=True) == 75
    train, test = pd.read_csv(tmp_path / "train.csv"), pd.read_csv(tmp_path / "test.csv")
    answers = pd.read_csv(tmp_path / "answers.csv")
    assert set(train["label"]) == set(SHAPES)
    assert (tmp_path / train["path"].iloc[0]).is_file()
    assert answers["id"].tolist() == test["path"].tolist()
    assert train.groupby("origin").size().max() == 6
    assert not set(train["path"]) & set(test["path"])
