"""`ens kfold`: members of our own loop, soups of their weights, heads on frozen features."""

from __future__ import annotations

from functools import partial

from ensembler.pipeline.train import train_recipe

METHODS = ("kfold", "soup", "probe")
train_kfold = partial(train_recipe, methods=METHODS)
