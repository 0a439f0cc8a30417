from ensembler.recipe import Recipe
from recipes import GOOD, problems


def test_defaults_hold_where_a_member_is_silent(recipe_file):
    spec = Recipe.load(recipe_file(GOOD)).spec
    assert (spec.members["cnn"].epochs, spec.members["vit"].epochs) == (5, 3)
    assert spec.folds.count == 5
    assert spec.members["cnn"].opt == "adamw"


def test_a_wrong_default_is_found_at_its_own_line(recipe_file):
    found = problems(recipe_file(GOOD.replace("epochs: 3", "epochs: -1")))
    assert found == [
        "recipe.yaml line 3: members.vit.epochs is -1; expected greater than or equal to 1"
    ]


def test_a_misspelt_default_is_said_once(recipe_file):
    assert problems(recipe_file(GOOD.replace("epochs: 3", "epoch: 3"))) == [
        "recipe.yaml line 3: defaults.epoch is not an option; did you mean 'epochs'?"
    ]
    found = problems(recipe_file(GOOD), "defaults.epoch=3", "members.cnn.epoch=3")
    assert found == [
        "--set defaults.epoch=3: defaults.epoch is not an option; did you mean 'epochs'?",
        "--set members.cnn.epoch=3: members.cnn.epoch is not an option; did you mean 'epochs'?",
    ]
