import math

import pytest

from ensembler.errors import RequestError
from ensembler.experiments.space import Space, option_at
from ensembler.recipe.tune import TuneSpec


def space(keys, **options):
    tune = TuneSpec.model_validate({"space": keys})
    return Space(tune, "cnn", {"opt": "adamw", **options})


CONDITIONAL = {
    "opt": ["adamw", "sgd"],
    "momentum": {"float": [0.8, 0.9], "when": {"opt": "sgd"}},
    "augment": {"choices": {"none": "none", "strong": {"preset": "heavy"}}},
}


def first(_, dimension):
    return next(iter(dimension.by_label), None) or dimension.range[0]


def test_only_keys_whose_condition_is_met_are_drawn():
    found = space(CONDITIONAL)
    assert found.draw(first) == {"opt": "adamw", "augment": "none"}
    drawn = found.draw(lambda key, d: "sgd" if key == "opt" else first(key, d))
    assert drawn == {"opt": "sgd", "momentum": 0.8, "augment": "none"}


def test_a_condition_may_name_an_option_of_the_member():
    keys = {"momentum": {"float": [0.8, 0.9], "when": {"opt": "sgd"}}, "lr": [0.1, 0.2]}
    assert space(keys).never_drawn == ("momentum",)
    assert space(keys, opt="sgd").never_drawn == ()


def test_a_trial_of_another_space_does_not_fit():
    found = space(CONDITIONAL)
    assert found.holds({"opt": "sgd", "momentum": 0.85, "augment": "strong"})
    assert not found.holds({"opt": "sgd", "augment": "strong"})
    assert not found.holds({"opt": "adamw", "momentum": 0.85, "augment": "none"})
    assert not found.holds({"opt": "sgd", "momentum": 0.95, "augment": "strong"})
    assert not found.holds({"opt": "lamb", "augment": "none"})


def test_values_become_settings_of_the_member_with_what_labels_mean():
    found = space({**CONDITIONAL, "input.size": [32, 48], "members.cnn.lr": [0.1]})
    params = {"augment": "strong", "input.size": 48, "members.cnn.lr": 0.1}
    settings = {s.option: (s.value, s.origin) for s in found.settings(params)}
    assert settings["augment"] == ({"preset": "heavy"}, "tune.space.augment = strong")
    assert settings["size"][0] == 48
    assert settings["lr"][0] == 0.1


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("folds.count", "folds is what all members share"),
        ("members.other.lr", "trials vary 'cnn' alone"),
    ],
)
def test_a_path_that_is_not_of_the_member_is_refused(key, message):
    with pytest.raises(RequestError, match=message):
        option_at(key, "cnn")


def test_corners_hold_every_choice_and_both_ends_of_every_range():
    corners = list(space(CONDITIONAL).corners())
    assert {c["opt"] for c in corners} == {"adamw", "sgd"}
    assert {c.get("momentum") for c in corners} == {None, 0.8, 0.9}
    assert {c["augment"] for c in corners} == {"none", "strong"}


@pytest.mark.parametrize(
    ("keys", "count"),
    [
        ({"a": [1, 2], "b": {"int": [1, 5]}}, 10),
        ({"a": [1, 2], "b": {"int": [1, 5], "step": 2, "when": {"a": 1}}}, 4),
        ({"a": {"float": [0, 1], "step": 0.25}}, 5),
        ({"a": {"float": [0, 1]}}, math.inf),
    ],
)
def test_a_space_knows_how_many_trials_it_has(keys, count):
    assert space(keys).count == count


def test_a_digest_depends_on_what_is_searched_and_not_on_the_order_of_keys():
    one, two = {"a": [1, 2], "b": [1, 2]}, {"b": [1, 2], "a": [1, 2]}
    assert space(one).digest == space(two).digest
    assert space(one).digest != space({**one, "a": [1, 2, 3]}).digest
