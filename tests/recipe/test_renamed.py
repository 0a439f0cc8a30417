"""`compile` of earlier versions is read as `step`."""

import pytest

from ensembler.errors import RecipeError
from ensembler.recipe import Recipe

OLD = """\
name: mine
data: {source: digits}
defaults: {backbone: resnet18, compile: auto}
members:
  plain: {}
  off: {compile: off}
  on: {compile: on}
"""


@pytest.fixture
def recipe(tmp_path):
    def write(text, name="recipe.yaml"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def test_a_recipe_of_earlier_versions_is_read_with_a_note(recipe):
    loaded = Recipe.load(recipe(OLD))
    steps = {name: member.step for name, member in loaded.spec.members.items()}
    assert steps == {"plain": "auto", "off": "eager", "on": "compile"}
    assert loaded.notes == (
        "recipe.yaml line 3: compile: auto is now step: auto",
        "recipe.yaml line 6: compile: off is now step: eager",
        "recipe.yaml line 7: compile: on is now step: compile",
    )
    today = OLD.replace("compile", "step").replace("step: off", "step: eager")
    assert Recipe.load(recipe(today.replace("step: on", "step: compile"))).notes == ()


def test_what_is_set_counts_more_by_either_name(recipe):
    path = recipe(OLD)
    loaded = Recipe.load(path, ["members.on.step=graph", "members.off.compile=on"])
    assert loaded.spec.members["on"].step == "graph"
    assert loaded.spec.members["off"].step == "compile"
    assert "--set members.off.compile=on: compile: on is now step: compile" in loaded.notes


def test_a_recipe_may_stand_on_one_of_earlier_versions(recipe):
    recipe(OLD, "base.yaml")
    above = recipe("extends: base.yaml\nmembers: {plain: {step: eager}}\n")
    assert Recipe.load(above).spec.members["plain"].step == "eager"


def test_both_names_at_once_are_refused(recipe):
    with pytest.raises(RecipeError, match="line 6: compile is the former name of step"):
        Recipe.load(recipe(OLD.replace("{compile: off}", "{compile: off, step: graph}")))


def test_what_compile_never_took_is_no_option(recipe):
    with pytest.raises(RecipeError, match="compile is not an option"):
        Recipe.load(recipe(OLD.replace("compile: off", "compile: fast")))


def test_the_recipe_that_an_earlier_run_keeps_still_opens(recipe):
    resolved = """\
name: mine
data: {source: digits}
members:
  on: {backbone: resnet18, compile: 'on'}
"""
    assert Recipe.load_recorded(recipe(resolved)).spec.members["on"].step == "compile"
