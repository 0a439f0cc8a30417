"""Members that a recipe takes from a portfolio, and its own beside them."""

import pytest

from ensembler.errors import RecipeError
from ensembler.recipe import Recipe
from ensembler.recipe.portfolio import PORTFOLIOS
from ensembler.workspace.lock import resolved_yaml


@pytest.fixture
def load(tmp_path):
    def load(text, *overrides):
        (tmp_path / "r.yaml").write_text(f"data: {{source: images}}\n{text}\n")
        return Recipe.load(tmp_path / "r.yaml", overrides)

    return load


def backbones(recipe):
    return {name: member.backbone for name, member in recipe.spec.members.items()}


def test_a_portfolio_alone_makes_the_members(load):
    recipe = load("portfolio: {name: small}")
    assert len(recipe.spec.members) == 6
    assert len(set(backbones(recipe).values())) == 6
    assert not any(member.pretrained for member in recipe.spec.members.values())


@pytest.mark.parametrize("name", PORTFOLIOS)
def test_every_portfolio_is_a_recipe_that_a_run_keeps_without_it(load, tmp_path, name):
    recipe = load(f"portfolio: {{name: {name}, count: 8}}")
    (tmp_path / "again.yaml").write_bytes(resolved_yaml(recipe.spec))
    assert Recipe.load(tmp_path / "again.yaml").spec.members == recipe.spec.members


def test_members_of_ones_own_stand_beside_it_or_change_one_of_it(load):
    recipe = load(
        "portfolio: {name: small, count: 2}\n"
        "members: {mine: {backbone: lcnet_050}, resnet: {lr: 0.5}, convnext: }"
    )
    assert backbones(recipe) == {
        "resnet": "resnet18",
        "convnext": "convnext_atto",
        "mine": "lcnet_050",
    }
    assert recipe.spec.members["resnet"].lr == 0.5


def test_defaults_come_before_what_it_says_save_for_the_backbone(load):
    recipe = load(
        "portfolio: {name: strong, count: 1}\n"
        "defaults: {backbone: resnet18, pretrained: false, epochs: auto}"
    )
    member = recipe.spec.members["convnext"]
    assert member.backbone == "convnext_tiny.in12k_ft_in1k"
    assert (member.pretrained, member.lr) == (False, 2e-4)
    assert recipe.auto_epochs == {"convnext"}


def test_set_reaches_the_portfolio_and_its_members(load):
    recipe = load(
        "portfolio: {name: small}", "portfolio.count=1", "members.resnet.epochs=2"
    )
    assert list(recipe.spec.members) == ["resnet"]
    assert recipe.spec.members["resnet"].epochs == 2
    with pytest.raises(RecipeError, match="unknown member 'resnte'; did you mean 'resnet'"):
        load("portfolio: {name: small}", "members.resnte.epochs=2")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("small", r"r\.yaml line 2: portfolio: expected a mapping"),
        ("{name: smal}", "portfolio.name is 'smal'; did you mean 'small'"),
        ("{name: small, count: 9}", "portfolio.count is 9, expected 1 to 8"),
        ("{name: small, count: true}", "portfolio.count is True"),
        ("{count: 2}", "portfolio.name is None"),
        ("{name: small, n: 2}", "portfolio.n is not an option"),
    ],
)
def test_what_it_cannot_be_is_named_with_its_line(load, given, message):
    with pytest.raises(RecipeError, match=message):
        load(f"portfolio: {given}")


def test_timm_has_all_of_its_networks():
    timm = pytest.importorskip("timm")
    for options in PORTFOLIOS["strong"].values():
        assert timm.models.is_model_pretrained(options["backbone"]), options["backbone"]
    for options in PORTFOLIOS["small"].values():
        assert timm.is_model(options["backbone"]), options["backbone"]
