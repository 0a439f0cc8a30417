"""Tabular members from a recipe to the submission, on drawn shapes with columns."""

import shutil
import textwrap

import numpy as np
import pandas as pd
import pytest

from ensembler import Recipe
from ensembler.bundle.pack import pack_run
from ensembler.errors import DataError, RecipeError, RequestError
from ensembler.pipeline.predict_new import predict_new
from ensembler.pipeline.run import run_recipe
from ensembler.predictions.store import RunStore
from ensembler.workspace.workspace import workspace_of_run

RECIPE = """
    name: table
    data:
      source: shapes/train.csv
      test: shapes/test.csv
      features: [hint, place, noise]
    folds: {count: 3, holdout: 0.2}
    input: {size: 16}
    views: [identity, hflip]
    members:
      columns: {method: tabular, head_args: {min_samples_leaf: 2}}
      noise: {method: tabular, head: logistic, columns: [noise, place]}
      both: {method: tabular, head: ridge, stack: [columns, noise]}
      knn: {method: probe, head: knn, features: {backbone: test_resnet}}
    blend: {method: soft}
"""


def with_columns(folder):
    """Add a column that often says the label, one of categories, and noise with gaps."""
    rng = np.random.default_rng(0)
    for name in ("train.csv", "test.csv"):
        table = pd.read_csv(folder / "shapes" / name, dtype=str)
        hint = rng.normal(size=len(table))
        if "label" in table:
            hint = hint * 0.3 + table["label"].factorize(sort=True)[0]
        places = pd.Series(rng.choice(["north", "south", ""], len(table)))
        noise = pd.Series(rng.normal(size=len(table))).round(3).astype(str)
        table["hint"], table["place"] = hint.round(3), places
        table["noise"] = noise.where(rng.random(len(table)) > 0.2, "")
        table.to_csv(folder / "shapes" / name, index=False)


@pytest.fixture(scope="module")
def made(tmp_path_factory, drawn_shapes):
    folder = tmp_path_factory.mktemp("table")
    shutil.copytree(drawn_shapes, folder / "shapes")
    with_columns(folder)
    (folder / "recipe.yaml").write_text(textwrap.dedent(RECIPE))
    run_recipe(Recipe.load(folder / "recipe.yaml"), folder / "artifacts")
    return folder


@pytest.fixture
def copied(made, tmp_path):
    shutil.copytree(made, tmp_path / "table")
    return tmp_path / "table"


def store_of(folder):
    return RunStore(folder / "artifacts" / "table")


def test_columns_make_members_beside_those_of_images(made):
    store = store_of(made)
    assert set(store.complete_members) == {"columns", "noise", "both", "knn"}
    scores = {
        n: store.member(n).record.scores["oof"]["accuracy"] for n in store.complete_members
    }
    assert scores["columns"] > 0.7
    assert scores["columns"] > scores["noise"]
    assert store.member("columns").record.views == ("identity",)
    assert store.member("knn").record.views == ("identity", "hflip")
    assert store.submission_path.is_file()


def test_samples_csv_has_no_columns_that_it_did_not_have(made):
    assert not [c for c in store_of(made).samples.table if "hint" in c]


def test_a_stacked_member_is_fitted_on_what_the_others_predict(made):
    record = store_of(made).member("both").record
    assert set(record.options["stack"]) == {"columns", "noise"}
    assert record.scores["oof"]["accuracy"] > 0.7


def test_new_images_come_without_columns(made):
    workspace = workspace_of_run(store_of(made))
    with pytest.raises(RequestError, match="'columns' does not look at images"):
        predict_new(workspace, made / "shapes" / "test.csv")
    with pytest.raises(RequestError, match="does not look at images"):
        pack_run(store_of(made), made / "table.ens")


def test_a_changed_column_makes_its_members_again_and_no_other(copied):
    table = pd.read_csv(copied / "shapes" / "train.csv", dtype=str)
    table["noise"] = "1"
    table.to_csv(copied / "shapes" / "train.csv", index=False)
    before = store_of(copied).member("knn").record.sha256
    recipe = Recipe.load(copied / "recipe.yaml", ["members.columns.columns=[hint, place]"])
    result = run_recipe(recipe, copied / "artifacts")
    assert result.trained == 9  # three folds of columns, noise, both
    assert store_of(copied).member("knn").record.sha256 == before


def test_the_label_is_no_column_to_learn_from(made):
    with pytest.raises(RecipeError, match="would be told what they are to predict"):
        Recipe.load(made / "recipe.yaml", ["data.features=[label]"])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.features=[]", "data.features names them"),
        ("members.noise.columns=[nose]", "did you mean 'noise'"),
        ("members.both.stack=[nobody]", "nobody"),
        ("members.both.stack=[columns, columns]", "names one twice"),
        ("members.columns.head_args={leaves: 3}", "leaves"),
    ],
)
def test_what_a_table_cannot_be_is_said(made, tmp_path, override, message):
    with pytest.raises(RecipeError, match=message):
        run_recipe(Recipe.load(made / "recipe.yaml", [override]), tmp_path)


def test_a_column_that_is_not_there_is_named(made, tmp_path):
    recipe = Recipe.load(made / "recipe.yaml", ["data.features=[hint, place, noise, age]"])
    with pytest.raises(DataError, match="age"):
        run_recipe(recipe, tmp_path)


def test_a_cell_that_should_be_a_number_is_named(made, tmp_path):
    features = "data.features={hint: number, place: number, noise: auto}"
    with pytest.raises(DataError, match=r"place should be a number .* row 2"):
        run_recipe(Recipe.load(made / "recipe.yaml", [features]), tmp_path)
