"""A small recipe as text, and what is wrong with one."""

import pytest

from ensembler.errors import RecipeError
from ensembler.recipe import Recipe

GOOD = """\
name: mine
data: {source: images.csv, targets: label}
defaults: {epochs: 3}
members:
  cnn: {backbone: resnet18, epochs: 5}
  vit: {backbone: vit_tiny_patch16_224}
"""


def problems(path, *overrides):
    with pytest.raises(RecipeError) as caught:
        Recipe.load(path, overrides)
    return caught.value.problems
