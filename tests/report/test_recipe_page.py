import json
import re

import pytest

from ensembler.recipe.load import Recipe
from ensembler.report.report import report_recipe

RECIPE = """
name: {name}
data: {{source: shapes/train.csv, test: shapes/test.csv, group: origin}}
folds: {{count: 3}}
input: {{size: 16}}
members:
  narrow: {{backbone: test_resnet}}
"""


@pytest.fixture
def recipe(shapes):
    path = shapes / "mine.yaml"
    header = (shapes / "shapes" / "train.csv").read_text().partition("\n")[0]
    text = RECIPE.format(name="mine")
    path.write_text(text if "origin" in header else text.replace(", group: origin", ""))
    return path


def test_the_data_are_shown_before_anything_is_trained(recipe, tmp_path):
    written = report_recipe(Recipe.load(recipe), tmp_path / "artifacts", pictures=30)
    assert written.file == recipe.with_name("mine-report.html")
    text = written.file.read_text()
    titles = re.findall(r"<h2[^>]*>([^<]*)", text)
    assert titles[0] == "In short"
    assert {"Classes", "Images: train beside test", "Folds and groups"} <= set(titles)
    assert "What the networks see" in titles
    assert 5 < text.count('<img src="data:image/webp') <= 30 + 8
    assert written.size < 1_000_000
    assert written.notes == ()


def test_data_that_a_run_would_refuse_have_a_page_that_says_so(ens_here, recipe):
    table = recipe.parent / "shapes" / "train.csv"
    lines = table.read_text().splitlines()
    table.write_text("\n".join([*lines[:2], *lines[1:]]))
    out = recipe.parent / "data.html"
    answer = json.loads(ens_here("report", recipe, "--out", out, "--json").stdout)
    assert any("duplicate" in note for note in answer["notes"])
    assert "What to fix" in out.read_text()


def test_options_of_a_recipe_are_refused_for_a_run_and_a_bundle_is_neither(ens_here):
    assert (
        "a run is shown as it is"
        in ens_here("report", "x", "--set", "a=1", expect=2).stderr
    )
    assert "expected a run" in ens_here("report", "x.ens", expect=2).stderr
