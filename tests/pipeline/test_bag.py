import pytest

from ensembler import Recipe
from ensembler.errors import RequestError
from ensembler.pipeline.bag import train_ensembles
from ensembler.predictions.store import RunStore


@pytest.mark.slow
def test_the_ensembles_are_trained_and_nothing_else(recipe):
    both = Recipe.load(recipe, ["members.bag={method: bagging, estimators: 2, epochs: 1}"])
    artifacts = recipe.parent / "artifacts"
    result = train_ensembles(both, artifacts)
    assert result.complete == ("bag-e1", "bag-e2", "bag")
    assert RunStore(artifacts / "shapes").complete_members == ["bag-e1", "bag-e2", "bag"]


def test_a_recipe_without_such_members_says_what_trains_the_others(recipe):
    with pytest.raises(RequestError, match="only kfold; `ens run` trains all methods"):
        train_ensembles(Recipe.load(recipe), recipe.parent / "artifacts")
