"""`ens kfold`: the members that our own loop trains, and the soups of their weights."""

from __future__ import annotations

from functools import partial

from ensembler.pipeline.train import train_recipe

METHODS = ("kfold", "soup")
train_kfold = partial(train_recipe, methods=METHODS)
