from ensembler.recipe import Recipe
from recipes import GOOD, problems


def test_environment_variables_are_filled_in_and_missed_by_name(recipe_file, monkeypatch):
    text = GOOD.replace("images.csv", "'${ENS_TEST_DATA}/images.csv'")
    assert problems(recipe_file(text)) == [
        "recipe.yaml line 2: environment variable ENS_TEST_DATA is not set"
    ]
    monkeypatch.setenv("ENS_TEST_DATA", "/data")
    assert Recipe.load(recipe_file(text)).spec.data.source == "/data/images.csv"
    assert Recipe.load(
        recipe_file(GOOD.replace("images.csv", "'${ENS_NOT_SET:-x}.csv'"))
    ).spec.data.source.endswith("/x.csv")
