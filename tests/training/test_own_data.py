"""What a member says of itself and a recipe of all: its input, and the labels it is trained on."""

import pytest
from pydantic import ValidationError

from ensembler.data.spec import DataSpec, InputSpec, OwnInputSpec, TrainBins
from ensembler.errors import RecipeError
from ensembler.recipe import Recipe
from ensembler.recipe.auto_epochs import made_for
from ensembler.recipe.own_code import code_named_by
from ensembler.training.spec import MemberSpec, with_own_input
from ensembler.workspace.lock import resolved_yaml

RECIPE = """
data: {{source: m.csv, targets: {{age: {{bins: [30, 60]}}, sex: {{}}}}, compose: [age, sex]}}
input: {{size: 64, resize: pad, bits: 12}}
members: {{cnn: {{backbone: resnet18{options}}}}}
"""


def member(**options):
    return MemberSpec(backbone="resnet18", **options)


@pytest.fixture
def load(tmp_path):
    def load(options=""):
        (tmp_path / "r.yaml").write_text(RECIPE.format(options=options and f", {options}"))
        return Recipe.load(tmp_path / "r.yaml").spec

    return load


def seen(spec):
    return spec.members["cnn"].seen_input(spec.input)


def test_a_member_sees_what_the_recipe_says_with_what_is_its_own(load):
    assert seen(load()) == load().input
    own = seen(load("input: {channels: 1, resize: crop}, size: 48, prepare: [grabcut]"))
    assert own == InputSpec(
        size=48, channels=1, resize="crop", bits=12, prepare=("grabcut",)
    )


def test_an_empty_list_takes_the_steps_of_the_recipe_out():
    of_recipe = InputSpec(prepare=("clahe",))
    assert member().seen_input(of_recipe).prepare == ("clahe",)
    assert member(prepare=[]).seen_input(of_recipe).prepare == ()
    assert member(input={"prepare": []}).seen_input(of_recipe).prepare == ()


def test_the_resolved_recipe_says_only_what_is_the_members_own(load, tmp_path):
    spec = load("input: {channels: 1}, train_bins: {age: [29, 58]}, prepare: []")
    (tmp_path / "again.yaml").write_bytes(resolved_yaml(spec))
    again = Recipe.load(tmp_path / "again.yaml").spec
    assert again.members == spec.members
    assert again.members["cnn"].input.said == {"channels": 1}


def test_what_is_said_twice_is_an_error():
    with pytest.raises(ValidationError, match=r"size and input\.size both say"):
        member(size=32, input={"size": 64})


def test_ways_to_see_begin_with_the_one_that_is_used(load):
    assert load("size: 48").inputs[0].size == 48
    assert load().inputs == (load().input,)


@pytest.mark.parametrize(
    "given",
    ["[29, 58]", "{edges: [29, 58]}", "{age: [29, 58]}", "{age: {edges: [29, 58]}}"],
)
def test_training_bins_are_by_target_or_of_the_only_one_with_bins(load, given):
    spec = load(f"train_bins: {given}")
    own = spec.members["cnn"].own_train_bins(spec.data)
    assert own == {"age": TrainBins(edges=(29, 58))}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("train_bins: {aeg: [29, 58]}", "did you mean 'age'"),
        ("train_bins: {sex: [29, 58]}", "needs bins"),
        ("train_bins: [29]", "as many edges as bins"),
        (
            "input: {sise: 4}",
            r"members.cnn.input.sise is not an option; did you mean 'size'",
        ),
    ],
)
def test_what_cannot_be_is_named(load, options, message):
    with pytest.raises(RecipeError, match=message):
        load(options)


def test_of_several_targets_with_bins_one_has_to_be_named():
    data = DataSpec(source="m", targets={"a": {"bins": [1]}, "b": {"bins": [2]}})
    with pytest.raises(ValueError, match="name targets"):
        member(train_bins=[3]).own_train_bins(data)


def test_a_member_without_them_is_fingerprinted_as_before():
    assert made_for(member()) == ("b98517c6cb0b9e33")
    assert not {"input", "prepare", "train_bins"} & member().decisive_options.keys()
    assert made_for(member()) != made_for(member(prepare=[]))


def test_code_of_its_own_steps_is_introduced(load):
    assert code_named_by(load('prepare: ["mine:step"]')) == {"mine:step": "prepare step"}


def test_a_record_of_all_that_a_member_saw_becomes_its_own_input():
    recorded = {
        "size": 32,
        "channels": 1,
        "axes": "scaled one by one",
        "bits": "as the files say",
    }
    own = OwnInputSpec.of_record(recorded)
    assert InputSpec(channels=3, resize="crop").with_own(own) == InputSpec(
        size=32, channels=1
    )
    options = with_own_input({"backbone": "resnet18", "size": 32, "input": recorded})
    assert MemberSpec.model_validate(options).seen_input(InputSpec()).channels == 1
