from typing import get_args

import pytest

from ensembler import Recipe
from ensembler.errors import RequestError
from ensembler.pipeline import bag, kfold
from ensembler.training.spec import EnsembleMethod


def test_every_method_of_a_member_is_trained_by_one_of_the_two_commands():
    assert not set(kfold.METHODS) & set(bag.METHODS)
    assert set(bag.METHODS) == set(get_args(EnsembleMethod))


def test_a_recipe_without_such_members_says_what_trains_the_others(recipe):
    bagging = "{method: bagging, estimators: 2}"
    ensembles = Recipe.load(
        recipe, [f"members.narrow={bagging}", f"members.wide={bagging}"]
    )
    with pytest.raises(
        RequestError,
        match=r"method kfold or soup or probe or tabular, only bagging; .*`ens bag` the others",
    ):
        kfold.train_kfold(ensembles, recipe.parent / "artifacts")


def test_what_is_there_is_not_trained_again_nor_blended(finished):
    result = kfold.train_kfold(Recipe.load(finished), finished.parent / "artifacts")
    assert (result.complete, result.trained, result.failures) == (
        ("narrow", "wide"),
        (),
        (),
    )
