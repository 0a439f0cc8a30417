"""A split written as a file, and taken by the recipe of somebody else."""

import json
import shutil

import pytest

from ensembler.errors import ChangedRecipeError
from ensembler.predictions.store import RunStore, run_names
from ensembler.recipe.load import Recipe
from ensembler.workspace.workspace import open_workspace

RECIPE = """
name: {name}
data: {{source: shapes/train.csv, targets: label, test: shapes/test.csv}}
folds: {folds}
input: {{size: 16}}
members: {{cnn: {{backbone: "tinynets:tiny"}}}}
"""
DRAWN = "{count: 3, seed: 5, holdout: 0.2}"


@pytest.fixture
def recipe(shapes, tmp_path):
    def write(name, folds):
        path = tmp_path / f"{name}.yaml"
        path.write_text(RECIPE.format(name=name, folds=folds))
        return path

    return write


def made(path, artifacts):
    return open_workspace(Recipe.load(path), artifacts).store


def test_a_recipe_with_the_file_has_the_same_samples_csv(recipe, ens_here, tmp_path):
    written = json.loads(ens_here("folds", recipe("ann", DRAWN), "--json").stdout)
    assert (written["out"], set(written["folds"])) == ("folds.csv", {"0", "1", "2"})
    assert written["held_out"] > 0
    assert run_names(tmp_path / "artifacts") == []
    ann = made(tmp_path / "ann.yaml", tmp_path / "artifacts")
    bob = made(recipe("bob", "folds.csv"), tmp_path / "artifacts")
    assert bob.samples_path.read_bytes() == ann.samples_path.read_bytes()
    assert RunStore(bob.folder).lock.data == RunStore(ann.folder).lock.data


def test_a_file_that_changed_is_another_split_and_one_that_moved_is_not(
    recipe, ens_here, tmp_path
):
    ens_here("folds", recipe("ann", DRAWN), "--out", "folds.csv")
    path = recipe("bob", "{file: folds.csv}")
    made(path, tmp_path / "artifacts")
    shutil.move(tmp_path / "folds.csv", tmp_path / "moved.csv")
    recipe("bob", "moved.csv")
    made(path, tmp_path / "artifacts")
    text = (tmp_path / "moved.csv").read_text()
    (tmp_path / "moved.csv").write_text(text.replace(",train,1", ",train,2", 1))
    with pytest.raises(ChangedRecipeError, match="have changed in 'fold'"):
        made(path, tmp_path / "artifacts")
