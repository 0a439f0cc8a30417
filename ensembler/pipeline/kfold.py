"""`ens kfold`: members of our own loop, soups of their weights, heads on features or columns."""

from __future__ import annotations

from functools import partial

from ensembler.pipeline.train import train_recipe
from ensembler.training.spec import FITTED

METHODS = ("kfold", "soup", *FITTED)
train_kfold = partial(train_recipe, methods=METHODS)
