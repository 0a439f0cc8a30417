import pytest

from ensembler.errors import RecipeError, RequestError
from ensembler.recipe import Recipe
from recipes import GOOD, problems


def test_set_overrides_and_is_named_when_it_is_wrong(recipe_file):
    path = recipe_file(GOOD)
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


@pytest.mark.parametrize("override", ["a=" + "[" * 20_000, "a." * 20_000 + "b=1"])
def test_an_override_nested_without_end_is_refused_in_one_short_line(recipe_file, override):
    with pytest.raises(RequestError, match="is nested too deeply") as caught:
        Recipe.load(recipe_file(GOOD), [override])
    assert len(str(caught.value)) < 200


def test_a_misspelt_member_of_an_override_is_named_with_the_nearest(recipe_file):
    wanted = r"--set members.cn.epochs=3: unknown member 'cn'; did you mean 'cnn'"
    with pytest.raises(RecipeError, match=wanted):
        Recipe.load(recipe_file(GOOD), ["members.cn.epochs=3"])
    with pytest.raises(
        RecipeError, match="unknown member 'cn'"
    ):  # also where it could be trained
        text = GOOD.replace("defaults: {", "defaults: {backbone: resnet18, ")
        Recipe.load(recipe_file(text), ["members.cn.epochs=3"])


def test_an_override_may_still_add_a_member(recipe_file):
    whole = Recipe.load(recipe_file(GOOD), ["members.new={backbone: vit, epochs: 2}"])
    apart = Recipe.load(
        recipe_file(GOOD), ["members.new.epochs=2", "members.new.backbone=vit"]
    )
    assert whole.spec.members["new"] == apart.spec.members["new"]
    assert whole.spec.members["new"].epochs == 2


def test_a_mapping_adds_to_the_one_that_is_there(recipe_file):
    members = Recipe.load(recipe_file(GOOD), ["members={cnn: {epochs: 7}}"]).spec.members
    assert {name: member.epochs for name, member in members.items()} == {"cnn": 7, "vit": 3}
    assert members["cnn"].backbone == "resnet18"
