import pytest

from ensembler.errors import RecipeError, RequestError
from ensembler.recipe import Recipe

GOOD = """\
name: mine
data: {source: images.csv, targets: label}
defaults: {epochs: 3}
members:
  cnn: {backbone: resnet18, epochs: 5}
  vit: {backbone: vit_tiny_patch16_224}
"""


@pytest.fixture
def recipe(tmp_path):
    def write(text, name="recipe.yaml"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def problems(path, *overrides):
    with pytest.raises(RecipeError) as caught:
        Recipe.load(path, overrides)
    return caught.value.problems


def test_defaults_hold_where_a_member_is_silent(recipe):
    spec = Recipe.load(recipe(GOOD)).spec
    assert (spec.members["cnn"].epochs, spec.members["vit"].epochs) == (5, 3)
    assert spec.folds.count == 5
    assert spec.members["cnn"].opt == "adamw"


def test_a_path_is_relative_to_the_recipe(recipe, tmp_path):
    assert Recipe.load(recipe(GOOD)).spec.data.source == str(tmp_path / "images.csv")
    assert (
        Recipe.load(recipe(GOOD.replace("images.csv", "digits"))).spec.data.source
        == "digits"
    )


def test_all_problems_come_at_once_with_line_and_nearest_name(recipe):
    text = (
        GOOD.replace("epochs: 5", "epochs: many").replace("backbone: vit", "bakbone: vit")
        + "foldz: {count: 1}\n"
    )
    found = problems(recipe(text))
    assert (
        "recipe.yaml line 5: members.cnn.epochs is 'many'; expected a valid integer"
        in found[0]
    )
    assert any(
        "recipe.yaml line 6: members.vit.bakbone is not an option; did you mean 'backbone'"
        in p
        for p in found
    )
    assert any(
        "recipe.yaml line 7: foldz is not an option; did you mean 'folds'" in p
        for p in found
    )
    assert any("members.vit.backbone is missing" in p for p in found)


def test_a_wrong_default_is_found_at_its_own_line(recipe):
    found = problems(recipe(GOOD.replace("epochs: 3", "epochs: -1")))
    assert found == [
        "recipe.yaml line 3: members.vit.epochs is -1; expected greater than or equal to 1"
    ]


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
def test_a_file_that_is_no_recipe_is_one_clear_problem(recipe, text, message):
    assert message in problems(recipe(text))[0]


def test_set_overrides_and_is_named_when_it_is_wrong(recipe):
    path = recipe(GOOD)
    assert (
        Recipe.load(path, ["members.cnn.epochs=7", "folds.seed=3"])
        .spec.members["cnn"]
        .epochs
        == 7
    )
    assert problems(path, "members.cnn.epoch=7") == [
        "--set members.cnn.epoch=7: members.cnn.epoch is not an option; did you mean 'epochs'?"
    ]
    with pytest.raises(RequestError, match="expected key=value"):
        Recipe.load(path, ["members.cnn.epochs"])


def test_extends_takes_what_the_recipe_leaves_out(recipe):
    recipe(GOOD, "base.yaml")
    spec = Recipe.load(
        recipe("extends: base.yaml\nname: other\nmembers: {cnn: {epochs: 1}}\n")
    ).spec
    assert (spec.name, spec.members["cnn"].epochs, spec.members["cnn"].backbone) == (
        "other",
        1,
        "resnet18",
    )
    assert problems(recipe("extends: recipe.yaml\n")) == [
        "recipe.yaml: extends comes back to itself"
    ]


def test_environment_variables_are_filled_in_and_missed_by_name(recipe, monkeypatch):
    text = GOOD.replace("images.csv", "'${ENS_TEST_DATA}/images.csv'")
    assert problems(recipe(text)) == [
        "recipe.yaml line 2: environment variable ENS_TEST_DATA is not set"
    ]
    monkeypatch.setenv("ENS_TEST_DATA", "/data")
    assert Recipe.load(recipe(text)).spec.data.source == "/data/images.csv"
    assert Recipe.load(
        recipe(GOOD.replace("images.csv", "'${ENS_NOT_SET:-x}.csv'"))
    ).spec.data.source.endswith("/x.csv")


def test_a_name_that_cannot_be_a_folder_is_a_problem(recipe):
    assert (
        "line 1: '../up' cannot be the name of a run"
        in problems(recipe(GOOD.replace("mine", "../up")))[0]
    )


def test_a_missing_recipe_names_those_that_are_there(recipe, tmp_path):
    recipe(GOOD)
    with pytest.raises(RequestError, match=r"does not exist; recipes there: recipe\.yaml"):
        Recipe.load(tmp_path / "other.yaml")


def test_the_name_of_a_recipe_without_one_is_its_file_name(recipe):
    assert (
        Recipe.load(recipe(GOOD.replace("name: mine\n", ""), "cars.yaml")).spec.name
        == "cars"
    )


def test_the_resolved_recipe_is_a_recipe_and_says_the_same(recipe):
    from ensembler.workspace.lock import resolved_yaml

    spec = Recipe.load(recipe(GOOD)).spec
    assert Recipe.load(recipe(resolved_yaml(spec).decode(), "resolved.yaml")).spec == spec


def test_the_schema_knows_every_key(recipe):
    from ensembler.recipe.schema import recipe_schema

    schema = recipe_schema()
    assert {"data", "members", "defaults", "extends", "views"} <= set(schema["properties"])
    assert "epochs" in schema["properties"]["defaults"]["properties"]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "data.targets={age: {expr: age > 3}}",
            "data.targets.age.expr is not an option; choose from from, bins",
        ),
        (
            "data.targets={age: {bins: [60, 30]}}",
            "data.targets.age: bins [60.0, 30.0] should rise from edge to edge",
        ),
        ("data.compose={}", "data.compose.of is missing"),
    ],
)
def test_where_a_value_may_have_several_forms_only_the_one_that_was_meant_is_explained(
    recipe, override, message
):
    (found,) = problems(recipe(GOOD.replace("targets: label", "targets: [a, b]")), override)
    assert message in found


@pytest.mark.parametrize(
    "text",
    [
        "data: " + "[" * 20_000,
        "data: " + "{a: " * 20_000,
        "\n".join(" " * i + "a:" for i in range(2_000)),
    ],
)
def test_a_recipe_nested_without_end_is_refused_in_one_short_line(recipe, text):
    assert problems(recipe(text)) == ["recipe.yaml is nested too deeply to be a recipe"]


@pytest.mark.parametrize("override", ["a=" + "[" * 20_000, "a." * 20_000 + "b=1"])
def test_an_override_nested_without_end_is_refused_in_one_short_line(recipe, override):
    with pytest.raises(RequestError, match="is nested too deeply") as caught:
        Recipe.load(recipe(GOOD), [override])
    assert len(str(caught.value)) < 200


def test_a_name_of_many_bytes_is_refused_before_anything_is_trained(recipe):
    name = "\u8c93" * 75
    (problem,) = problems(
        recipe(
            f"name: x\ndata: {{source: digits}}\nmembers: {{{name}: {{backbone: test_resnet}}}}\n"
        )
    )
    assert "225 bytes, at most 160" in problem
    short = recipe(
        f"name: {name[:50]}\ndata: {{source: digits}}\nmembers: {{m: {{backbone: test_resnet}}}}\n"
    )
    assert Recipe.load(short).spec.name == name[:50]


@pytest.mark.parametrize("source", ["local-dir", "local_dir"])  # timm takes both
def test_a_folder_of_a_backbone_is_relative_to_the_recipe(tmp_path, source):
    text = f"data: {{source: digits}}\ndefaults: {{backbone: '{source}:a'}}\nmembers: {{m: {{}}, n: {{backbone: 'a:b'}}}}\n"
    (tmp_path / "r.yaml").write_text(text)
    members = Recipe.load(tmp_path / "r.yaml").spec.members
    assert members["m"].backbone == f"local-dir:{tmp_path}/a"
    assert members["n"].backbone == "a:b"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("members=[a]", "members; expected a mapping, such as {key: value}"),
        ("defaults.lr=.inf", "members.cnn.lr is inf; expected a finite number"),
        ("augment={rotate: .nan}", "augment.rotate is nan; expected a finite number"),
        ("members.cnn=3", "members.cnn is 3; expected a mapping"),
        ("folds=5", "folds is 5; expected a mapping"),
        ("views=[]", "views; expected at least 1 of them"),
        ("name=2024", "name is 2024; expected text"),
        (
            "members.cnn.epochs=1e30",
            "members.cnn.epochs is 1e+30; expected a whole number of fewer digits",
        ),
    ],
)
def test_wrong_types_are_told_in_plain_words(recipe, override, message):
    (problem, *_) = problems(recipe(GOOD), override)
    assert message in problem


@pytest.mark.parametrize("empty", ['""', '" "'])
def test_an_empty_path_is_not_the_folder_of_the_recipe(recipe, empty):
    assert problems(recipe(GOOD.replace("images.csv", empty))) == [
        "recipe.yaml line 2: data.source is empty, expected a path"
    ]


def test_a_misspelt_member_of_an_override_is_named_with_the_nearest(recipe):
    wanted = r"--set members.cn.epochs=3: unknown member 'cn'; did you mean 'cnn'"
    with pytest.raises(RecipeError, match=wanted):
        Recipe.load(recipe(GOOD), ["members.cn.epochs=3"])
    with pytest.raises(
        RecipeError, match="unknown member 'cn'"
    ):  # also where it could be trained
        text = GOOD.replace("defaults: {", "defaults: {backbone: resnet18, ")
        Recipe.load(recipe(text), ["members.cn.epochs=3"])


def test_an_override_may_still_add_a_member(recipe):
    whole = Recipe.load(recipe(GOOD), ["members.new={backbone: vit, epochs: 2}"])
    apart = Recipe.load(recipe(GOOD), ["members.new.epochs=2", "members.new.backbone=vit"])
    assert whole.spec.members["new"] == apart.spec.members["new"]
    assert whole.spec.members["new"].epochs == 2
