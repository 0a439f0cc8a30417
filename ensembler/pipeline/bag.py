"""`ens bag`: the members that torchensemble trains, an ensemble for each fold."""

from __future__ import annotations

from functools import partial
from typing import get_args

from ensembler.pipeline.train import train_recipe
from ensembler.training.spec import EnsembleMethod

METHODS = get_args(EnsembleMethod)
train_ensembles = partial(train_recipe, methods=METHODS)
