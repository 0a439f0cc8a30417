import pytest

from ensembler.recipe import Recipe
from recipes import GOOD, problems


def test_a_path_is_relative_to_the_recipe(recipe_file, tmp_path):
    assert Recipe.load(recipe_file(GOOD)).spec.data.source == str(tmp_path / "images.csv")
    assert (
        Recipe.load(recipe_file(GOOD.replace("images.csv", "digits"))).spec.data.source
        == "digits"
    )


@pytest.mark.parametrize("source", ["local-dir", "local_dir"])  # timm takes both
def test_a_folder_of_a_backbone_is_relative_to_the_recipe(tmp_path, source):
    text = f"data: {{source: digits}}\ndefaults: {{backbone: '{source}:a'}}\nmembers: {{m: {{}}, n: {{backbone: 'a:b'}}}}\n"
    (tmp_path / "r.yaml").write_text(text)
    members = Recipe.load(tmp_path / "r.yaml").spec.members
    assert members["m"].backbone == f"local-dir:{tmp_path}/a"
    assert members["n"].backbone == "a:b"


@pytest.mark.parametrize("empty", ['""', '" "'])
def test_an_empty_path_is_not_the_folder_of_the_recipe(recipe_file, empty):
    assert problems(recipe_file(GOOD.replace("images.csv", empty))) == [
        "recipe.yaml line 2: data.source is empty, expected a path"
    ]
