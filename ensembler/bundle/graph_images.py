"""Real images to check a graph on, and what the run predicted for them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

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
    """Images that a graph in int8 is calibrated on, and others that it is judged on.

    `truth` has distributions `[judged, classes]` of what is true, by the position of the answer;
    an answer without is judged by what the graph says in float32. `first_half` `[judged]` is what
    is fitted on for the others, and the other way round; groups are not torn apart.
    """

    calibration: ImageSet
    judged: ImageSet
    first_half: NDArray[np.bool_]
    judged_by: str
    truth: dict[int, NDArray[np.float64]] = field(default_factory=dict)


def halves_of(images: ImageSet) -> JudgedImages:
    """Images of which nothing is known: every other one calibrates, the others judge."""
    calibration = replace(images, rows=images.rows[::2], what=f"half of {images.what}")
    judged = replace(images, rows=images.rows[1::2], predicted={})
    return JudgedImages(
        calibration,
        judged,
        np.arange(len(judged)) % 2 == 0,
        "what float32 says of the other half",
    )


def judged_images_of_run(workspace: Workspace, ensemble: Ensemble) -> JudgedImages:
    """Train images calibrate; labelled test rows judge, which no network has seen.

    Where there are too few of those, test images judge by what float32 says of them, or where
    there are none train images.
    """
    train, test = workspace.image_rows
    images, inputs = workspace.samples.images, graph_inputs(ensemble)
    chosen = spread(len(train), 2 * N_CALIBRATED)
    of_train = ImageSet(
        f"{len(chosen)} train images of the run", images, train[chosen], inputs
    )
    if not len(test):
        return halves_of(of_train)
    calibration = halves_of(of_train).calibration
    calibration = replace(calibration, what=f"{len(calibration)} train images of the run")
    store = workspace.store
    target = ensemble.record.target_of(ensemble.record.answers[0])
    labels = store.labels(target.name, "test", target.classes)
    known = np.flatnonzero((labels if labels.ndim == 1 else labels[:, 0]) >= 0)
    has_labels = len(known) >= _FEWEST
    among = known if has_labels else np.arange(len(test))
    rows = among[spread(len(among), N_JUDGED)]
    judged = ImageSet(f"{len(rows)} test images of the run", images, test[rows], inputs)
    groups = store.samples.test.get("group")
    half = _half(np.arange(len(rows)) if groups is None else groups.to_numpy()[rows])
    if not has_labels:
        return JudgedImages(calibration, judged, half, "what float32 says of test images")
    one_label = labels.ndim == 1
    truth = np.eye(len(target.classes))[labels[rows]] if one_label else labels[rows]
    by = "labels of the holdout, which no network has seen"
    return JudgedImages(calibration, judged, half, by, {0: truth.astype(np.float64)})


def _half(groups: NDArray[Any]) -> NDArray[np.bool_]:
    """Which rows `[rows]` are in the first half: groups go to the halves in turn."""
    in_order = {group: i for i, group in enumerate(dict.fromkeys(groups.tolist()))}
    half = np.array([in_order[group] % 2 == 0 for group in groups.tolist()], dtype=bool)
    if half.all():
        half[1::2] = False  # one group cannot be in both halves otherwise
    return half
