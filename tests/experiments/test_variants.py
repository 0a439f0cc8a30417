import pytest

from ensembler import Recipe
from ensembler.errors import RecipeError, RequestError
from ensembler.experiments.variants import (
    CommonOptions,
    Setting,
    check_option,
    member_options,
    variant_recipe,
)


@pytest.fixture
def base(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text(
        "name: r\n"
        "data: {source: images}\n"
        "members:\n"
        "  cnn: {backbone: resnet18, epochs: 6, freeze_epochs: 4, loss: focal, focal_gamma: 1}\n"
        "  other: {backbone: resnet18}\n"
        "blend: {method: weights, weights: {cnn: 1}, members: [cnn]}\n"
    )
    return Recipe.load(path)


def made(base, *settings, **common):
    recipe, options = variant_recipe(base, "cnn", [settings], "v", CommonOptions(**common))
    (name,) = options
    return recipe, name, member_options(recipe, name)


def setting(option, value):
    return Setting(option, value, str(value))


def test_variants_replace_the_members_and_what_the_blend_says_of_them(base):
    recipe, name, options = made(base, setting("lr", 0.02))
    assert recipe.spec.name == "v"
    assert list(recipe.spec.members) == [name] == ["lr-0.02"]
    assert options["lr"] == 0.02
    assert options["backbone"] == "resnet18"
    assert recipe.spec.blend.members is None
    assert not recipe.spec.blend.weights


def test_an_option_that_counts_no_more_is_left_out_and_one_that_was_asked_for_is_an_error(
    base,
):
    assert "focal_gamma" not in made(base, setting("loss", "cross_entropy"))[2]
    with pytest.raises(RecipeError, match="focal_gamma counts only with loss: focal"):
        made(base, setting("loss", "bce"), setting("focal_gamma", 3))


def test_fewer_epochs_freeze_no_longer_than_they_last(base):
    _, _, options = made(base, setting("lr", 0.02), epochs=3, seeds=2)
    assert (options["epochs"], options["freeze_epochs"], options["seeds"]) == (3, 3, 2)


def test_a_dotted_option_changes_one_part_and_null_takes_an_option_out(base):
    assert made(base, setting("model_args.width", 8))[2]["model_args"] == {"width": 8}
    assert "freeze_epochs" not in made(base, setting("freeze_epochs", None))[2]


def test_names_are_fit_for_folders_and_different(base):
    variants = [[Setting("lr", 0.01, "a/b")], [Setting("lr", 0.02, "a b")]]
    _, options = variant_recipe(base, "cnn", variants, "v", CommonOptions())
    assert list(options) == ["lr-a_b", "lr-a_b@2"]


def test_a_wrong_value_is_named_as_it_was_given(base):
    with pytest.raises(RecipeError, match="--axis epochs=two"):
        made(base, setting("epochs", "two"))


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("agument", "did you mean 'augment'"),
        ("seeds", "--seeds N"),
        ("also", "give it to the member"),
        ("epochs.x", "epochs is 6 in the recipe, which has no parts"),
    ],
)
def test_an_option_that_cannot_be_varied_is_refused(base, option, message):
    with pytest.raises(RequestError, match=message):
        check_option(option, member_options(base, "cnn"))
