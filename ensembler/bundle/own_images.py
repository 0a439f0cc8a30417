"""Test images of the run that is packed, with the predictions that it has kept of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ensembler.bundle.ensemble import Ensemble
from ensembler.data.images import ChosenImages
from ensembler.data.samples import SampleSet, drop_samples, read_samples
from ensembler.errors import DataError, ImageError
from ensembler.predictions.store import RunStore
from ensembler.recipe.load import Recipe

N_COMPARED = 32


@dataclass(frozen=True)
class OwnImages:
    """Some test images, and by answer the probabilities `[images, classes]` that the run kept."""

    images: ChosenImages
    probs: Mapping[str, NDArray[np.floating]]


def own_test_images(store: RunStore, ensemble: Ensemble) -> OwnImages | None:
    """Test images from all over the run's test part; None when they are not there any more."""
    ids = store.samples.test["id"].tolist()
    samples = _samples(store)
    if not ids or samples is None:
        return None
    position = {sample: i for i, sample in enumerate(samples.table["id"])}
    rows = np.unique(np.linspace(0, len(ids) - 1, min(len(ids), N_COMPARED)).astype(int))
    rows = rows[[ids[row] in position for row in rows]]
    images = ChosenImages(samples.images, [position[ids[row]] for row in rows])
    if not len(rows) or not _can_be_read(images):
        return None
    answers = ensemble.record.answers
    return OwnImages(images, {name: store.blend(name).test[rows] for name in answers})


def _samples(store: RunStore) -> SampleSet | None:
    spec = Recipe.load_recorded(store.recipe_path).spec
    try:
        samples = read_samples(spec.data, spec.folds)
    except (DataError, OSError):
        return None
    return drop_samples(samples, store.lock.left_out)


def _can_be_read(images: ChosenImages) -> bool:
    try:
        for i in range(len(images)):
            images.read(i)
    except (ImageError, OSError):
        return False
    return True
