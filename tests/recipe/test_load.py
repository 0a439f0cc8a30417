import pytest

from ensembler.errors import RequestError
from ensembler.recipe import Recipe
from recipes import GOOD, problems


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "recipe.yaml is empty"),
        ("# only a comment\n", "recipe.yaml is empty"),
        ("- a\n", "holds a sequence, expected keys"),
        ("data:\n\tsource: x\n", "line 2: a tab stands in the indentation"),
        ("name: a\nname: b\n", "line 2: 'name' is given twice"),
        (
            "name: !!python/object/apply:os.system [ls]\n",
            "a recipe holds plain values only",
        ),
        ("a: &a [*a]\n", "expands to too many values"),
        ("name: [1\n", "line"),
    ],
)
def test_a_file_that_is_no_recipe_is_one_clear_problem(recipe_file, text, message):
    assert message in problems(recipe_file(text))[0]


def test_extends_takes_what_the_recipe_leaves_out(recipe_file):
    recipe_file(GOOD, "base.yaml")
    spec = Recipe.load(
        recipe_file("extends: base.yaml\nname: other\nmembers: {cnn: {epochs: 1}}\n")
    ).spec
    assert (spec.name, spec.members["cnn"].epochs, spec.members["cnn"].backbone) == (
        "other",
        1,
        "resnet18",
    )
    assert problems(recipe_file("extends: recipe.yaml\n")) == [
        "recipe.yaml: extends comes back to itself"
    ]


def test_a_missing_recipe_names_those_that_are_there(recipe_file, tmp_path):
    recipe_file(GOOD)
    with pytest.raises(RequestError, match=r"does not exist; recipes there: recipe\.yaml"):
        Recipe.load(tmp_path / "other.yaml")


def test_the_name_of_a_recipe_without_one_is_its_file_name(recipe_file):
    assert (
        Recipe.load(recipe_file(GOOD.replace("name: mine\n", ""), "cars.yaml")).spec.name
        == "cars"
    )


def test_the_resolved_recipe_is_a_recipe_and_says_the_same(recipe_file):
    from ensembler.workspace.lock import resolved_yaml

    spec = Recipe.load(recipe_file(GOOD)).spec
    assert (
        Recipe.load(recipe_file(resolved_yaml(spec).decode(), "resolved.yaml")).spec == spec
    )


def test_the_schema_knows_every_key(recipe_file):
    from ensembler.recipe.schema import recipe_schema

    schema = recipe_schema()
    assert {"data", "members", "defaults", "extends", "views"} <= set(schema["properties"])
    assert "epochs" in schema["properties"]["defaults"]["properties"]


@pytest.mark.parametrize(
    "text",
    [
        "data: " + "[" * 20_000,
        "data: " + "{a: " * 20_000,
        "\n".join(" " * i + "a:" for i in range(2_000)),
    ],
)
def test_a_recipe_nested_without_end_is_refused_in_one_short_line(recipe_file, text):
    assert problems(recipe_file(text)) == [
        "recipe.yaml is nested too deeply to be a recipe"
    ]
