"""`ens predict`: images through a bundle, into a table."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from ensembler.bundle.apply import Answer, answers_of
from ensembler.bundle.ensemble import Ensemble
from ensembler.bundle.images import AskedImages, AskedPixels
from ensembler.bundle.networks import Networks
from ensembler.bundle.tables import AnswerColumns, check_ending, write_predictions
from ensembler.data.spec import InputSpec
from ensembler.errors import ImageError
from ensembler.files import claim, fingerprint
from ensembler.outputs import check_output, open_output
from ensembler.predictions.chunks import CHUNK, ChunkedLogits
from ensembler.progress import QUIET, Progress

SHARD = 8 * CHUNK  # images whose logits are on disk at once


@dataclass(frozen=True)
class PredictedImages:
    """Predictions that were written, and the images that could not be read."""

    bundle: str
    out: Path
    rows: int
    failed: tuple[tuple[str, str], ...]
    seconds: float


def predict_images(
    networks: Networks,
    asked: AskedImages,
    out: Path,
    *,
    strict: bool = False,
    progress: Progress = QUIET,
) -> PredictedImages:
    """Predict images and write them as a table, whose form the ending of `out` says.

    Images that cannot be read keep a row without values, or end it all when `strict`. What is
    predicted is kept beside `out` until the table is there: after a crash the same call goes on.
    """
    began = time.perf_counter()
    form = check_ending(out)
    check_output(out)
    with _kept_beside(out, _key(networks, asked)) as folder:
        job = PredictionJob(networks, asked, folder, progress, strict)
        job.run()
        with open_output(out) as file:
            write_predictions(file, form, asked.ids, job.columns())
        failed = tuple(sorted(job.broken.items()))
    return PredictedImages(
        networks.ensemble.where,
        out,
        len(asked),
        tuple((str(asked.paths[i]), fault) for i, fault in failed),
        time.perf_counter() - began,
    )


@dataclass(frozen=True)
class PredictionJob:
    """Predictions of many images, shard after shard; whole chunks outlive the process.

    The rows of `results` have, for each answer, the probabilities and then the disagreement.
    """

    networks: Networks
    asked: AskedImages
    folder: Path
    progress: Progress
    strict: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def ensemble(self) -> Ensemble:
        """What predicts."""
        return self.networks.ensemble

    @cached_property
    def results(self) -> ChunkedLogits:
        """What is predicted, mapped from a file: `[1, images, columns]`."""
        width = sum(len(self._classes(name)) + 1 for name in self.ensemble.record.answers)
        return ChunkedLogits.open(self.folder / "results.npy", 1, (len(self.asked),), width)

    def _classes(self, answer: str) -> tuple[str, ...]:
        return self.ensemble.record.target_of(answer).classes

    @cached_property
    def broken(self) -> dict[int, str]:
        """What is wrong with the images that cannot be read, by position."""
        return dict(_lines(self._broken_path))

    @property
    def _broken_path(self) -> Path:
        return self.folder / "broken.jsonl"

    def _note(self, i: int, error: ImageError) -> None:
        """Note an image that cannot be read, before what is predicted in its place is kept."""
        if self.strict:
            raise error
        with self._lock:
            if i in self.broken:
                return
            self.broken[i] = error.fault
            with self._broken_path.open("a") as log:
                log.write(json.dumps([i, error.fault]) + "\n")
        self.progress.warn(f"{self.asked.paths[i]}: {error.fault}")

    def run(self) -> None:
        """Predict what is not predicted yet."""
        for start, stop in self._shards():
            self._predict(start, stop)

    def _shards(self) -> Iterator[tuple[int, int]]:
        """The rows that are missing, in pieces of at most SHARD that begin where chunks do."""
        for start in range(0, len(self.asked), SHARD):
            stop = min(start + SHARD, len(self.asked))
            chunks = [s for s in self.results.starts if start <= s < stop]
            if any(chunk not in self.results.seconds for chunk in chunks):
                yield start, stop

    def _predict(self, start: int, stop: int) -> None:
        rows = np.arange(start, stop, dtype=np.int64)

        def pixels_of(spec: InputSpec) -> AskedPixels:
            return AskedPixels(self.asked.images, spec, self._note)

        inner = self.folder / f"{start}"
        logits = self.networks.logits(pixels_of, rows, inner)
        self._keep(start, stop, answers_of(self.ensemble, logits))
        shutil.rmtree(inner)

    def _keep(self, start: int, stop: int, answers: Mapping[str, Answer]) -> None:
        first = 0
        results = self.results.array[0, start:stop]
        for answer in answers.values():
            width = answer.probs.shape[1]
            results[:, first : first + width] = answer.probs
            results[:, first + width] = answer.disagreement
            first += width + 1
        results[[i - start for i in self.broken if start <= i < stop]] = np.nan
        for chunk in self.results.starts:
            if start <= chunk < stop:
                self.results.keep(chunk, 0.0)

    def columns(self) -> list[AnswerColumns]:
        """What is written of each answer."""
        found, first = [], 0
        for nth, name in enumerate(self.ensemble.record.answers):
            target = self.ensemble.record.target_of(name)
            width = len(target.classes)
            array = self.results.array[0]
            found.append(
                AnswerColumns(
                    target,
                    array[:, first : first + width],
                    array[:, first + width],
                    prefix=f"{target.name}." if nth else "",
                )
            )
            first += width + 1
        return found


def _key(networks: Networks, asked: AskedImages) -> str:
    """A digest of bundle, engine and images: with others the prediction starts anew."""
    from ensembler.networks.devices import pick_device

    record = networks.ensemble.record
    device = pick_device(networks.device).type
    return fingerprint([record.sha256, networks.engine, device, asked.signs()])


@contextmanager
def _kept_beside(out: Path, key: str) -> Iterator[Path]:
    """Where predictions are kept until the table is there; a killed job goes on from there."""
    parent = out.resolve().parent
    parent.mkdir(parents=True, exist_ok=True)
    folder = parent / f".{out.name}.{key}.parts"
    with claim(parent / f".{out.name}.lock", wait=True):
        for other in parent.glob(f".{out.name}.*.parts"):
            if other != folder:
                shutil.rmtree(other)
        yield folder
        shutil.rmtree(folder, ignore_errors=True)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """The images that were noted as broken; a line that was cut short is left out."""
    if not path.is_file():
        return
    for text in path.read_text(errors="replace").splitlines():
        try:
            i, fault = json.loads(text)
        except ValueError:
            continue
        yield int(i), str(fault)
