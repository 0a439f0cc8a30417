"""`ens predict`: images through a bundle, into a table."""

from __future__ import annotations

import glob
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO

import numpy as np

from ensembler.bundle.apply import Answer
from ensembler.bundle.ensemble import Ensemble
from ensembler.bundle.images import AskedImages
from ensembler.bundle.jobs import Worker, predict_shards, threads_each
from ensembler.bundle.networks import Networks
from ensembler.bundle.shard import BROKEN, Shard, note_images, noted_images
from ensembler.bundle.tables import AnswerColumns, check_ending, write_predictions
from ensembler.bundle.template import check_template, like_template
from ensembler.errors import RequestError
from ensembler.files import claim, fingerprint
from ensembler.outputs import check_output, open_output
from ensembler.predictions.chunks import CHUNK, ChunkedLogits
from ensembler.progress import QUIET, Progress

MOST_WARNINGS = 20  # broken images that are warned of one by one
SHARD = 8 * CHUNK  # images whose logits are on disk at once


@dataclass(frozen=True)
class PredictedImages:
    """Predictions that were written, and the images that could not be read."""

    bundle: str
    out: Path
    rows: int
    failed: tuple[tuple[str, str], ...]
    seconds: float


@dataclass(frozen=True)
class Form:
    """What is written, and how: a table of all answers, or a submission like `template`.

    `strict` ends it all at an image that cannot be read; `processes` predict at the same time.
    """

    template: Path | None = None
    strict: bool = False
    processes: int = 1


def predict_images(
    networks: Networks,
    asked: AskedImages,
    out: Path,
    form: Form,
    progress: Progress = QUIET,
) -> PredictedImages:
    """Predict images and write them as a table, whose form the ending of `out` says.

    Images that cannot be read keep a row without values. What is predicted is kept beside `out`
    until the table is there: after a crash the same call resumes.
    """
    began = time.perf_counter()
    ending = check_ending(out)
    check_output(out)
    record = networks.ensemble.record
    target = record.target_of(record.answers[0])
    if form.template is not None:
        if ending != "csv":
            raise RequestError(f"{out}: a submission like a template is a .csv file")
        check_template(form.template, asked.ids, target, record.submission)
    with _kept_beside(out, _key(networks, asked)) as folder:
        job = PredictionJob(networks, asked, folder, progress, form)
        job.run()
        with open_output(out) as file:
            job.write(file, ending)
        failed = sorted(job.broken.items())
    return PredictedImages(
        networks.ensemble.where,
        out,
        len(asked),
        tuple((str(asked.paths[i]), fault) for i, fault in failed),
        time.perf_counter() - began,
    )


@dataclass(frozen=True)
class PredictionJob:
    """Predictions of many images, shard after shard; what is finished outlives the process.

    The rows of `results` have, for each answer, the probabilities and then the disagreement.
    """

    networks: Networks
    asked: AskedImages
    folder: Path
    progress: Progress
    form: Form

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
        return dict(noted_images(self.folder / BROKEN))

    def run(self) -> None:
        """Predict what is not predicted yet."""
        shards = list(self._missing())
        if self.form.processes == 1 or len(shards) < 2:
            for start, stop in shards:
                self._predict(start, stop)
            return
        done = len(self.asked) - sum(stop - start for start, stop in shards)
        for found in predict_shards(self._worker, shards, self.form.processes):
            for i, fault in found.broken.items():
                self._warn(i, fault)
            self._keep(self._shard(found.start, found.stop), found.answers, found.broken)
            done += found.stop - found.start
            self.progress.step("predicting", done, len(self.asked))

    @property
    def _worker(self) -> Worker:
        return Worker(
            Path(self.ensemble.where),
            bool(self.ensemble.code),
            self.networks.device,
            self.networks.engine,
            self.asked,
            self.folder,
            self.form.strict,
            threads_each(self.form.processes),
        )

    def _missing(self) -> Iterator[tuple[int, int]]:
        """The rows that are missing, in pieces that begin where chunks do."""
        size = self._shard_size
        for start in range(0, len(self.asked), size):
            stop = min(start + size, len(self.asked))
            chunks = [s for s in self.results.starts if start <= s < stop]
            if any(chunk not in self.results.seconds for chunk in chunks):
                yield start, stop

    @property
    def _shard_size(self) -> int:
        """How many images are blended together: all, where the blend ranks them."""
        n = len(self.asked)
        if self.ensemble.ranks_rows:
            return n
        each = -(-n // (2 * self.form.processes * CHUNK)) * CHUNK
        return SHARD if self.form.processes == 1 else min(SHARD, each)

    def _shard(self, start: int, stop: int) -> Shard:
        return Shard(
            self.networks, self.asked, self.folder, start, stop, strict=self.form.strict
        )

    def _predict(self, start: int, stop: int) -> None:
        shard = self._shard(start, stop)
        answers = shard.predict(self._warn, self.progress)
        self._keep(shard, answers, shard.broken_before)

    def _warn(self, i: int, fault: str) -> None:
        if len(self._warned) < MOST_WARNINGS:
            self.progress.warn(f"{self.asked.paths[i]}: {fault}")
        self._warned.append(i)

    @cached_property
    def _warned(self) -> list[int]:
        return []

    def _keep(
        self, shard: Shard, answers: Mapping[str, Answer], broken: Mapping[int, str]
    ) -> None:
        results, first = self.results.array[0, shard.start : shard.stop], 0
        for answer in answers.values():
            width = answer.probs.shape[1]
            results[:, first : first + width] = answer.probs
            results[:, first + width] = answer.disagreement
            first += width + 1
        results[[i - shard.start for i in broken]] = np.nan
        self.broken.update(broken)
        note_images(self.folder / BROKEN, broken)
        for chunk in self.results.starts:
            if shard.start <= chunk < shard.stop:
                self.results.keep(chunk, 0.0)
        shard.forget()

    def write(self, file: IO[bytes], ending: str) -> None:
        """Write the table, or the submission."""
        columns = self.columns()
        if self.form.template is None:
            write_predictions(file, ending, self.asked.ids, columns)
            return
        first, spec = columns[0], self.ensemble.record.submission
        probs = np.asarray(first.probs)
        table = like_template(self.form.template, self.asked.ids, probs, first.target, spec)
        file.write(table.to_csv(index=False, lineterminator="\n").encode())

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
    """Where predictions are kept until the table is there; a killed job resumes from there.

    Of standard output or a pipe that is a temporary folder, and nothing is resumed.
    """
    if out.exists() and not out.is_file():
        with tempfile.TemporaryDirectory(prefix="ens-predict-") as name:
            yield Path(name)
        return
    parent = out.resolve().parent
    parent.mkdir(parents=True, exist_ok=True)
    folder = parent / f".{out.name}.{key}.parts"
    with claim(parent / f".{out.name}.lock", wait=True):
        for other in parent.glob(f".{glob.escape(out.name)}.*.parts"):
            if other != folder:
                shutil.rmtree(other)
        folder.mkdir(exist_ok=True)
        yield folder
        shutil.rmtree(folder, ignore_errors=True)
