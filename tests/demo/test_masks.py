import filecmp

import pandas as pd

from ensembler.demo.masks import write_masks


def test_the_same_seed_writes_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        write_masks(tmp_path / name / "masks", persons=3, seed=4)
    one, two = (tmp_path / name / "masks" for name in ("one", "two"))
    names = sorted(
        str(p.relative_to(one))
        for p in one.rglob("*")
        if p.is_file() and p.name != "recipe.yaml"
    )
    assert len(names) == 4 + 7 * 7
    assert filecmp.cmpfiles(one, two, names, shallow=False)[0] == names


def test_every_person_has_seven_photos_and_the_test_part_has_other_persons(tmp_path):
    assert write_masks(tmp_path, persons=20) == 7 * 25
    train, test = pd.read_csv(tmp_path / "train.csv"), pd.read_csv(tmp_path / "test.csv")
    counts = pd.crosstab(train["person"], train["mask"])
    assert (counts[["worn", "wrong", "none"]] == [5, 1, 1]).all().all()
    assert (train.groupby("person")[["gender", "age"]].nunique() == 1).all().all()
    assert not set(test["id"].str[:5]) & set(train["person"])
    assert list(test.columns) == ["id", "path"]
    answers = pd.read_csv(tmp_path / "answers.csv")
    assert answers["id"].tolist() == test["id"].tolist()
    spelt = answers["mask"] + "-" + answers["gender"] + "-"
    assert all(
        label.startswith(start)
        for label, start in zip(answers["label"], spelt, strict=True)
    )
