from pathlib import Path

import pytest

from ensembler.recipe import Recipe

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_every_shipped_recipe_parses(path, monkeypatch):
    monkeypatch.setenv("ENS_CLOTHING", "/data")
    monkeypatch.setenv("ENS_FASHION", "/data")
    assert Recipe.load(path).spec.name == path.stem


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_every_shipped_recipe_says_where_its_data_come_from(path):
    comments = [
        line for line in path.read_text().splitlines() if line.startswith("# Data: ")
    ]
    assert len(comments) == 1
