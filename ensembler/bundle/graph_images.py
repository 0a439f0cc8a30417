"""Real images to check a graph on, and what the run predicted for them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

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

if TYPE_CHECKING:
    from ensembler.workspace.workspace import Workspace

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


def named_images(
    ensemble: Ensemble, given: Sequence[str], most: int = N_CHECKED
) -> ImageSet:
    """Some images of folders, files, patterns or manifests that the user names."""
    asked = find_asked(given, path_column=ensemble.record.path_column)
    rows = spread(len(asked), most)
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


def open_images(store: RunStore, progress: Progress) -> Workspace | None:
    """The run with its images; None where they are gone, of which `progress` is told."""
    from ensembler.workspace.workspace import workspace_of_run

    try:
        return workspace_of_run(store, progress)
    except (RequestError, StoreError) as error:
        first = str(error).splitlines()[0]
        progress.warn(
            f"the graph is checked on drawn images, for those of the run are not there ({first})"
        )
        return None


def images_of_run(workspace: Workspace, ensemble: Ensemble) -> ImageSet:
    """Test images of a run with what it predicted for them, else train images."""
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
            name: _stored(workspace.store, ensemble, name, chosen)
            for name in ensemble.record.answers
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


# --- images to quantise a graph by

N_CALIBRATED = 128
N_JUDGED = 512
_FEWEST = 30  # labelled rows; fewer judge nothing


@dataclass(frozen=True)
class JudgedImages:
    """Three sets of images: a graph in int8 is calibrated on one, tempered on another, and judged.

    `truth` has distributions `[judged, classes]` of what is true of the first answer; without it
    the graph is judged by what it says in float32. Labels judge, and nothing is fitted to them.
    """

    calibration: ImageSet
    tempering: ImageSet
    judged: ImageSet
    judged_by: str
    truth: NDArray[np.float64] | None = None


def thirds_of(images: ImageSet) -> JudgedImages:
    """Images of which nothing is known: a third of them for each purpose."""
    parts = [
        replace(
            images, rows=images.rows[nth::3], what=f"a third of {images.what}", predicted={}
        )
        for nth in range(3)
    ]
    by = f"what float32 says of a third of {images.what}"
    return JudgedImages(parts[0], parts[1], parts[2], by)


def judged_images_of_run(workspace: Workspace, ensemble: Ensemble) -> JudgedImages:
    """Train images calibrate and temper; labelled test rows judge, which no network has seen.

    Where there are too few of those, test images judge by what float32 says of them, or where
    there are none train images.
    """
    train, test = workspace.image_rows
    images, inputs = workspace.samples.images, graph_inputs(ensemble)

    def image_set(rows: NDArray[np.int64], kind: str) -> ImageSet:
        return ImageSet(f"{len(rows)} {kind} images of the run", images, rows, inputs)

    if not len(test):
        return thirds_of(image_set(train[spread(len(train), 3 * N_CALIBRATED)], "train"))
    chosen = train[spread(len(train), 2 * N_CALIBRATED)]
    calibration = image_set(chosen[::2], "train")
    tempering = image_set(chosen[1::2], "train")
    target = ensemble.record.target_of(ensemble.record.answers[0])
    labels = workspace.store.labels(target.name, "test", target.classes)
    known = np.flatnonzero((labels if labels.ndim == 1 else labels[:, 0]) >= 0)
    has_labels = len(known) >= _FEWEST
    among = known if has_labels else np.arange(len(test))
    rows = among[spread(len(among), N_JUDGED)]
    judged = image_set(test[rows], "test")
    if not has_labels:
        by = f"what float32 says of {judged.what}"
        return JudgedImages(calibration, tempering, judged, by)
    one_label = labels.ndim == 1
    truth = np.eye(len(target.classes))[labels[rows]] if one_label else labels[rows]
    by = "labels of the holdout, which nothing was fitted to"
    return JudgedImages(calibration, tempering, judged, by, truth.astype(np.float64))
