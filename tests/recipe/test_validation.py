import pytest

from ensembler.recipe import Recipe
from recipes import GOOD, problems


def test_all_problems_come_at_once_with_line_and_nearest_name(recipe_file):
    text = (
        GOOD.replace("epochs: 5", "epochs: many").replace("backbone: vit", "bakbone: vit")
        + "foldz: {count: 1}\n"
    )
    found = problems(recipe_file(text))
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


def test_a_name_that_cannot_be_a_folder_is_a_problem(recipe_file):
    assert (
        "line 1: '../up' cannot be the name of a run"
        in problems(recipe_file(GOOD.replace("mine", "../up")))[0]
    )


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
    recipe_file, override, message
):
    (found,) = problems(
        recipe_file(GOOD.replace("targets: label", "targets: [a, b]")), override
    )
    assert message in found


def test_a_name_of_many_bytes_is_refused_before_anything_is_trained(recipe_file):
    name = "\u8c93" * 75
    (problem,) = problems(
        recipe_file(
            f"name: x\ndata: {{source: digits}}\nmembers: {{{name}: {{backbone: test_resnet}}}}\n"
        )
    )
    assert "225 bytes, at most 160" in problem
    short = recipe_file(
        f"name: {name[:50]}\ndata: {{source: digits}}\nmembers: {{m: {{backbone: test_resnet}}}}\n"
    )
    assert Recipe.load(short).spec.name == name[:50]


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
def test_wrong_types_are_told_in_plain_words(recipe_file, override, message):
    (problem, *_) = problems(recipe_file(GOOD), override)
    assert message in problem
