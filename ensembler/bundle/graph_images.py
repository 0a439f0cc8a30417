"""Real images to check a graph on, and what the run predicted for them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ensembler.bundle.ensemble import Ensemble
from ensembler.bundle.graph_module import GraphInput, graph_inputs
from ensembler.bundle.images import AskedPixels, find_asked, refuse_broken
from ensembler.bundle.reference import draw_reference
from ensembler.data.images import ArrayImages, Images
from ensembler.errors import RequestError, StoreError
from ensembler.predictions.store import RunStore
from ensembler.progress import Progress

N_CHECKED = 32
Batch = dict[str, NDArray[np.uint8]]  # by input `[n, size, size, channels]`


@dataclass(frozen=True)
class ImageSet:
    """Images by position, prepared for each input of a graph.

    `what` says in words which they are, `are_real` whether they are no drawings. `predicted` has
    what the run's own engine predicted for them `[images, classes]`, by answer.
    """

    what: str
    images: Images
    rows: NDArray[np.int64]
    inputs: tuple[GraphInput, ...]
    are_real: bool = True
    predicted: dict[str, NDArray[np.floating]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, start: int, stop: int) -> Batch:
        """The images from `start` up to `stop`."""
        rows = self.rows[start:stop]
        return {
            given.name: AskedPixels(self.images, given.spec, refuse_broken)[rows]
            for given in self.inputs
        }


def spread(n: int, wanted: int) -> NDArray[np.int64]:
    """At most so many positions, all over `n`: the first images may be of one class."""
    return np.unique(np.linspace(0, n - 1, min(n, wanted)).astype(np.int64))


def named_images(ensemble: Ensemble, given: Sequence[str]) -> ImageSet:
    """The first images of folders, files, patterns or manifests that the user names."""
    asked = find_asked(given, path_column=ensemble.record.path_column)
    rows = spread(len(asked), N_CHECKED)
    what = f"{len(rows)} images of {', '.join(given)}"
    return ImageSet(what, asked.images, rows, graph_inputs(ensemble))


def drawn_images(ensemble: Ensemble) -> ImageSet:
    """The reference images, which are drawn; a bundle keeps what its run predicted for them."""
    images, predicted = draw_reference(), {}
    kept = ensemble.record.reference
    if kept is not None:
        images = np.load(io.BytesIO(ensemble.read(kept.images)), allow_pickle=False)
        predicted = {
            answer: np.load(io.BytesIO(ensemble.read(entry)), allow_pickle=False)
            for answer, entry in kept.probs.items()
        }
    return ImageSet(
        f"{len(images)} drawn reference images",
        ArrayImages(images, "reference"),
        np.arange(len(images), dtype=np.int64),
        graph_inputs(ensemble),
        are_real=False,
        predicted=predicted,
    )


def images_of_run(store: RunStore, ensemble: Ensemble, progress: Progress) -> ImageSet:
    """Test images of a run with what it predicted for them, else train images.

    Where the images of the run are gone, the drawn ones, of which `progress` is told.
    """
    from ensembler.workspace.workspace import workspace_of_run

    try:
        workspace = workspace_of_run(store, progress)
    except (RequestError, StoreError) as error:
        first = str(error).splitlines()[0]
        progress.warn(
            f"the graph is checked on drawn images, for those of the run are not there ({first})"
        )
        return drawn_images(ensemble)
    train, test = workspace.image_rows
    images, inputs = workspace.samples.images, graph_inputs(ensemble)
    if not len(test):
        rows = train[spread(len(train), N_CHECKED)]
        return ImageSet(f"{len(rows)} train images of the run", images, rows, inputs)
    chosen = spread(len(test), N_CHECKED)
    return ImageSet(
        f"{len(chosen)} test images of the run",
        images,
        test[chosen],
        inputs,
        predicted={
            name: _stored(store, ensemble, name, chosen) for name in ensemble.record.answers
        },
    )


def _stored(
    store: RunStore, ensemble: Ensemble, blend: str, rows: NDArray[np.int64]
) -> NDArray[np.floating]:
    """What a blend of the store predicted for test rows, classes in the ensemble's order."""
    kept = store.blend(blend)
    own = list(kept.record.classes)
    order = [own.index(name) for name in ensemble.record.target_of(blend).classes]
    return np.asarray(kept.test)[rows][:, order]
