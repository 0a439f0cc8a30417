import math

import pytest

from ensembler import Recipe
from ensembler.members.plan import MemberPlan
from ensembler.members.short_training import advice_on_augmentation, steps_of
from ensembler.workspace.workspace import open_workspace


def plans(recipe, *overrides):
    workspace = open_workspace(Recipe.load(recipe, overrides), recipe.parent / "artifacts")
    return [MemberPlan(workspace, member) for member in workspace.members]


def test_steps_are_those_of_the_optimizer(recipe):
    first = plans(recipe, "members.narrow.batch_size=8", "members.narrow.accumulate=2")[0]
    rows = len(first.rows.rows_of_fold(0, validation=False))
    batches = math.ceil(rows / 8)
    assert steps_of(first) == 2 * math.ceil(batches / 2)


def test_a_short_training_with_augmentation_is_advised(recipe):
    advice = advice_on_augmentation(plans(recipe, "augment=light"))
    assert advice is not None
    assert "member 'narrow' (and 1 more) takes " in advice
    assert "fewer than 300 augment: light may cost accuracy" in advice


@pytest.mark.parametrize(
    "overrides",
    [
        ["augment=none"],
        ["augment=light", "defaults.epochs=300"],
        ["augment=[{HorizontalFlip: {p: 0.5}}]"],
        ["augment=light", "defaults.pretrained=true", "defaults.backbone=test_resnet"],
    ],
    ids=["none", "long", "by hand", "pretrained"],
)
def test_what_is_long_enough_not_augmented_or_not_from_scratch_is_not(recipe, overrides):
    assert advice_on_augmentation(plans(recipe, *overrides)) is None


def test_heavy_needs_more_steps_than_light(recipe):
    long = ["defaults.epochs=100", "defaults.batch_size=8"]
    there = plans(recipe, "augment=light", *long)
    assert 300 < steps_of(there[0]) < 500
    assert advice_on_augmentation(there) is None
    assert "fewer than 500" in str(
        advice_on_augmentation(plans(recipe, "augment=heavy", *long))
    )
