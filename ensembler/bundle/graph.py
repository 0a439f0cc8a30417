"""`ens export --format onnx|openvino|torch`: a whole ensemble as one graph of another runtime."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from ensembler.bundle.apply import answers_of
from ensembler.bundle.ensemble import Ensemble
from ensembler.bundle.graph_files import (
    SUFFIXES,
    Run,
    check_format,
    onnx_model,
    openvino_model,
    trace,
    write_onnx,
    write_openvino,
    write_torch,
)
from ensembler.bundle.graph_images import (
    N_CALIBRATED,
    Batch,
    ImageSet,
    JudgedImages,
    drawn_images,
    images_of_run,
    judged_images_of_run,
    named_images,
    open_images,
    thirds_of,
)
from ensembler.bundle.graph_int8 import MOST_LOSS, Int8Cost, check_int8, quantised
from ensembler.bundle.graph_module import (
    EnsembleGraph,
    OpenGraph,
    check_exportable,
    input_key,
    output_names,
)
from ensembler.errors import RequestError, StoreError
from ensembler.outputs import check_output
from ensembler.predictions.store import RunStore
from ensembler.progress import QUIET, Progress

if TYPE_CHECKING:
    from ensembler.workspace.workspace import Workspace

TOLERANCE = 1e-5  # of a probability, against the ensemble in float32
_FIRST_BATCHES = (1, 3)  # then all other images at once: any number must give the same


@dataclass(frozen=True)
class ExportedGraph:
    """A graph that was written, and how far it is from what it was made of.

    `max_difference` is the largest difference of a probability from the ensemble in float32,
    `max_difference_run` that from what the run's own engine predicted (None where it predicted
    nothing), on the images that `checked_on` says. Of a graph in int8, `int8` has what that costs.
    """

    files: tuple[Path, ...]
    format: str
    blend: str
    members: tuple[str, ...]
    networks: int
    inputs: dict[str, list[int]]
    classes: tuple[str, ...]
    max_difference: float
    max_difference_run: float | None
    checked_on: str
    seconds: float
    int8: Int8Cost | None = None

    @property
    def file(self) -> Path:
        """The file that is opened."""
        return self.files[0]

    @property
    def bytes(self) -> int:
        """The size of all its files."""
        return sum(path.stat().st_size for path in self.files)

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "file": str(self.file),
            "bytes": self.bytes,
            "files": [str(path) for path in self.files],
            "format": self.format,
            "blend": self.blend,
            "members": list(self.members),
            "networks": self.networks,
            "inputs": self.inputs,
            "classes": list(self.classes),
            "max_difference": self.max_difference,
            "max_difference_run": self.max_difference_run,
            "checked_on": self.checked_on,
            "seconds": self.seconds,
            "int8": None if self.int8 is None else self.int8.to_json(),
        }


def export_graph(
    ensemble: Ensemble,
    format: str,
    out: Path,
    *,
    store: RunStore | None = None,
    images: Sequence[str] = (),
    int8: bool = False,
    max_loss: float = MOST_LOSS,
    progress: Progress = QUIET,
) -> ExportedGraph:
    """Write the ensemble as one graph that needs neither torch nor this package (or torch alone).

    It takes uint8 images `[n, height, width, channels]`, an input for each size, and gives
    probabilities float32 `[n, classes]` of the first answer; those of other targets follow. It is
    checked on `images`, else on images of the run in `store`, else on drawn ones. Raises
    RequestError for what is no formula, and StoreError where the graph computes something else.
    """
    began = time.perf_counter()
    check_format(format)
    if int8:
        check_int8(format)
    check_out(out, format)
    check_exportable(ensemble)
    source = ImageSource(ensemble, store, tuple(images), progress)
    checked = source.to_check()
    judged = source.to_quantise() if int8 else None
    graph = EnsembleGraph(ensemble) if judged is None else OpenGraph(ensemble)
    check = GraphCheck(graph, checked)
    progress.note(f"tracing {len(check.entries)} networks")
    program = trace(graph)
    description = describe(ensemble, graph)
    out.parent.mkdir(parents=True, exist_ok=True)
    cost = None
    if format == "torch":
        files = write_torch(program, out, description, check)
    elif format == "onnx":
        files = write_onnx(onnx_model(program, graph), out, description, check)
    elif judged is None:
        model = openvino_model(onnx_model(program, graph))
        files = write_openvino(model, out, description, check)
    else:
        progress.note(f"quantising on {judged.calibration.what}")
        in_float = openvino_model(onnx_model(program, graph))
        model, cost = quantised(in_float, graph, judged, max_loss)
        description["int8"] = cost.to_json()
        files = write_openvino(model, out, description, check.measure)
    return ExportedGraph(
        files=tuple(files),
        format=format,
        blend=ensemble.record.answers[0],
        members=tuple(member.name for member in ensemble.networks),
        networks=len(check.entries),
        inputs={given["name"]: given["shape"] for given in description["inputs"]},
        classes=ensemble.record.target_of(ensemble.record.answers[0]).classes,
        max_difference=check.largest,
        max_difference_run=check.from_run,
        checked_on=checked.what,
        seconds=time.perf_counter() - began,
        int8=cost,
    )


def check_out(out: Path, format: str) -> None:
    """Raise RequestError when `out` cannot become a file of this format."""
    suffix = SUFFIXES[format]
    if out.suffix != suffix and not out.is_dir():
        raise RequestError(f"--out {out}: the name of a file for {format} ends in {suffix}")
    if out.is_dir():
        example = out / f"model{suffix}"
        raise RequestError(
            f"--out {out} is a folder, expected the name of a file, such as {example}"
        )
    check_output(out)


@dataclass(frozen=True)
class ImageSource:
    """Where images to check a graph on come from: the user, the run, or the drawn reference."""

    ensemble: Ensemble
    store: RunStore | None
    named: tuple[str, ...]
    progress: Progress

    @cached_property
    def _workspace(self) -> Workspace | None:
        if self.store is None or self.named:
            return None
        return open_images(self.store, self.progress)

    def to_check(self) -> ImageSet:
        """Some images, with what the run predicted for them."""
        if self.named:
            return named_images(self.ensemble, self.named)
        if self._workspace is None:
            return drawn_images(self.ensemble)
        return images_of_run(self._workspace, self.ensemble)

    def to_quantise(self) -> JudgedImages:
        """Images to calibrate on, and others to judge by; RequestError without real ones."""
        if self.named:
            return thirds_of(named_images(self.ensemble, self.named, 3 * N_CALIBRATED))
        if self._workspace is None:
            raise RequestError(
                "--int8 is calibrated on real images, and there are none here; --images FOLDER "
                "names some"
            )
        return judged_images_of_run(self._workspace, self.ensemble)


def describe(ensemble: Ensemble, graph: EnsembleGraph) -> dict[str, Any]:
    """What a user of the file has to know, as it is kept in the file."""
    record = ensemble.record
    outputs = []
    for name, answer in zip(output_names(ensemble), record.answers, strict=True):
        target = record.target_of(answer)
        outputs.append(
            {
                "name": name,
                "target": target.name,
                "classes": list(target.classes),
                "several_labels": target.kind.is_multi_label,
            }
        )
    inputs = []
    for given in graph.inputs:
        spec = given.spec
        inputs.append(
            {
                "name": given.name,
                "shape": list(spec.shape),
                **spec.model_dump(mode="json", include={"resize", "decode", "prepare"}),
            }
        )
    return {
        "format": 1,
        "run": record.name,
        "blend": record.answers[0],
        "inputs": inputs,
        "outputs": outputs,
        "members": {
            member.name: {
                "networks": len(member.checkpoints),
                "views": list(member.view_names),
            }
            for member in ensemble.networks
        },
        "versions": record.versions,
    }


class GraphCheck:
    """Compares what computes a graph with the ensemble in float32, and with the run.

    Called with what computes it, it raises StoreError when a probability is further than TOLERANCE
    from the ensemble's. `largest` and `from_run` are the largest differences found.
    """

    def __init__(self, graph: EnsembleGraph, images: ImageSet) -> None:
        self.images = images
        self.answers = graph.ensemble.record.answers
        self.entries = [e for m in graph.ensemble.networks for e in m.checkpoints]
        self.batches = [images.batch(start, stop) for start, stop in _parts(len(images))]
        self.wanted = [eager_probs(graph, batch) for batch in self.batches]
        self.largest = 0.0
        self.from_run: float | None = None

    def __call__(self, run: Run) -> None:
        """Compare what `run` gives, and raise StoreError where that is something else."""
        self.measure(run)
        if not self.largest <= TOLERANCE:
            raise StoreError(
                f"the graph gives other probabilities than the ensemble (off by "
                f"{self.largest:.2g}, at most {TOLERANCE:g}); nothing was written"
            )

    def measure(self, run: Run) -> None:
        """Find how far what `run` gives is from the ensemble and the run."""
        found = [run(batch) for batch in self.batches]
        self.largest = max(map(_gap, found, self.wanted))
        self.from_run = self._from_run(found)

    def _from_run(self, found: Sequence[Sequence[NDArray[np.float32]]]) -> float | None:
        gaps = []
        for nth, answer in enumerate(self.answers):
            if answer in self.images.predicted:
                probs = np.concatenate([of_batch[nth] for of_batch in found])
                gaps.append(float(np.abs(probs - self.images.predicted[answer]).max()))
        return max(gaps, default=None)


def _parts(n: int) -> list[tuple[int, int]]:
    """Where batches start and stop: small ones first, then all others."""
    edges = [0]
    for size in (*_FIRST_BATCHES, n):
        edges.append(min(n, edges[-1] + size))
    return [(a, b) for a, b in itertools.pairwise(edges) if b > a]


def _gap(
    found: Sequence[NDArray[np.float32]], wanted: Sequence[NDArray[np.float32]]
) -> float:
    """The largest difference; not a number where one of them is none."""
    return max(float(np.abs(a - b).max()) for a, b in zip(found, wanted, strict=True))


def eager_probs(graph: EnsembleGraph, batch: Batch) -> list[NDArray[np.float32]]:
    """What the ensemble gives in float32, network by network, merged and blended by numpy."""
    ensemble = graph.ensemble
    pixels = {input_key(given.spec): batch[given.name] for given in graph.inputs}
    logits = {}
    for number, member in enumerate(ensemble.networks):
        seen = pixels[input_key(member.input)]
        views = [view(seen) for view in ensemble.views(member)]
        logits[member.name] = [
            np.stack(list(map(partial(_logits, network), views)))
            for network in graph.networks_of(number)
        ]
    answers = answers_of(ensemble, logits)
    return [answers[name].probs for name in ensemble.record.answers]


@torch.inference_mode()
def _logits(network: torch.nn.Module, view: NDArray[np.uint8]) -> NDArray[np.float32]:
    logits: NDArray[np.float32] = network(
        torch.from_numpy(view).permute(0, 3, 1, 2)
    ).numpy()
    return logits
