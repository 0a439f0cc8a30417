import pytest

from ensembler import Recipe
from ensembler.errors import RecipeError, RequestError
from ensembler.experiments.variants import (
    CommonOptions,
    Setting,
    check_option,
    member_options,
    named_after_settings,
    own_option,
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
    variants = named_after_settings([settings])
    recipe = variant_recipe(base, "cnn", variants, "v", CommonOptions(**common))
    (name,) = variants
    return recipe, name, member_options(recipe, name)


def setting(option, value):
    return Setting(option, value, str(value), f"--axis {option}={value}")


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
    variants = [[Setting("lr", 0.01, "a/b", "")], [Setting("lr", 0.02, "a b", "")]]
    assert list(named_after_settings(variants)) == ["lr-a_b", "lr-a_b@2"]


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
        check_option(option, member_options(base, "cnn"), f"--axis {option}")


def test_what_a_recipe_says_of_all_is_varied_where_a_member_has_it(base):
    assert own_option("input.size") == "size"
    assert own_option("input.resize") == "input.resize"
    assert own_option("data.targets.age.train_bins.drop") == "train_bins.age.drop"
    assert made(base, setting("input.resize", "pad"))[2]["input"] == {"resize": "pad"}
    with pytest.raises(RequestError, match="only train_bins may differ"):
        own_option("data.targets.age.bins")


def test_a_short_option_takes_the_place_of_what_the_members_input_says(base):
    (base.path).write_text(
        "name: r\n"
        "data: {source: images, targets: {age: {bins: [30, 60]}}}\n"
        "members: {cnn: {backbone: resnet18, input: {size: 64, resize: pad}}}\n"
    )
    recipe = Recipe.load(base.path)
    _, _, options = made(recipe, setting("input.size", 48))
    assert (options["size"], options["input"]) == (48, {"resize": "pad"})
    _, _, moved = made(recipe, setting("data.targets.age.train_bins", [29, 58]))
    assert moved["train_bins"] == {"age": [29, 58]}
