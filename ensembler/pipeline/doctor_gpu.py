"""`ens doctor --gpu`: what the device of this machine does in each path that a run may take.

Every path is tried for a moment on invented images: training steps, precisions, augmentation,
prediction, decoding. What fails is part of the report and no error, so that a report can be pasted
into an issue.
"""

from __future__ import annotations

import copy
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ensembler.data.decoding import decode
from ensembler.data.on_device.choose import choose_augment
from ensembler.inference.engines.choose import ready
from ensembler.inference.engines.eager import plain
from ensembler.inference.engines.registry import named_engine
from ensembler.inference.one_pass import PredictionRequest, run_pass
from ensembler.inference.predictor import as_images
from ensembler.inference.views import expand_views
from ensembler.logits import softmax
from ensembler.machine.cores import available_cores
from ensembler.machine.execution import Execution
from ensembler.networks.build import Normalised, build_network
from ensembler.networks.devices import (
    autocast,
    autocast_type,
    pick_device,
    place_for_training,
)
from ensembler.progress import QUIET, Progress, RecordedProgress
from ensembler.training.fold import train_fold
from ensembler.training.fold_data import FoldData
from ensembler.training.setup import FoldSetup
from ensembler.training.spec import MemberSpec

CLASSES = 10
VIEWS = ("identity", "hflip", "vflip", "rot180")
_FILE_SIDE = 512  # of the JPEG files that are decoded
MOST_SECONDS = 60.0  # seconds after which nothing more is tried


@dataclass(frozen=True)
class Size:
    """How much is tried: a network, its images, and how many batches of them an epoch has."""

    backbone: str
    size: int
    batch: int
    batches: int
    epochs: int

    @property
    def images(self) -> int:
        """The images of an epoch."""
        return self.batch * self.batches


ON_A_CARD = Size("resnet18", 64, 64, batches=40, epochs=3)
ON_A_PROCESSOR = Size("test_resnet", 32, 16, batches=4, epochs=2)


@dataclass(frozen=True)
class Tried:
    """One path, and what came of it: images a second, or why there are none.

    `bytes` is the most memory that it held on the device (None where that is not counted),
    `difference` the largest difference of a probability from plain float32, `notes` what a run
    would have said.
    """

    part: str
    path: str
    rate: float | None = None
    bytes: int | None = None
    difference: float | None = None
    fault: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """As a line of the report."""
        if self.rate is None:
            return f"{self.part}, {self.path}: {self.fault}"
        facts = [f"{self.rate:,.0f} images/s"]
        if self.bytes is not None:
            facts.append(f"{self.bytes / 1e9:.2f} GB")
        if self.difference is not None:
            facts.append(f"off by {self.difference:.1e}")
        return f"{self.part}, {self.path}: {', '.join([*facts, *self.notes])}"


@dataclass(frozen=True)
class DeviceReport:
    """What a device does, path by path."""

    device: str
    network: str
    size: int
    batch: int
    seconds: float
    tried: tuple[Tried, ...]

    @property
    def of_synthetic(self) -> float | None:
        """The fastest training as a share of the steps on one batch that is there already."""
        bound = [t.rate for t in self.tried if t.part == "synthetic" and t.rate is not None]
        reached = [
            t.rate for t in self.tried if t.part == "training" and t.rate is not None
        ]
        return max(reached) / max(bound) if bound and reached else None

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {
            **asdict(self),
            "tried": [asdict(one) for one in self.tried],
            "of_synthetic": self.of_synthetic,
        }

    @property
    def lines(self) -> list[str]:
        """As text, to be pasted into an issue."""
        share = self.of_synthetic
        reached = [] if share is None else [f"training reaches {share:.2f} of synthetic"]
        return [
            f"{self.network} at {self.size} px, batch {self.batch}, on {self.device}:",
            *(f"  {one.text}" for one in self.tried),
            *(f"  {text}" for text in reached),
            f"  {self.seconds:.0f} s",
        ]


def try_device(
    name: str = "auto", progress: Progress = QUIET, size: Size | None = None
) -> DeviceReport:
    """Try every path on the device called `name`, for a minute at most.

    Raises RequestError for a device that is not there.
    """
    device = pick_device(name)
    of = size or _size_for(device)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        tried = _try_all(_Trial(name, device, of, Path(folder)), progress)
    seconds = time.perf_counter() - began
    return DeviceReport(str(device), of.backbone, of.size, of.batch, seconds, tuple(tried))


def _try_all(trial: _Trial, progress: Progress) -> list[Tried]:
    began, tried = time.perf_counter(), list[Tried]()
    paths = trial.paths
    for i, (part, path, measure) in enumerate(paths):
        if time.perf_counter() - began > MOST_SECONDS:
            tried.append(Tried(part, path, fault="not tried: a minute is over"))
        else:
            tried.append(_tried(part, path, measure, trial.device))
        progress.step("trying the device", i + 1, len(paths))
    return tried


def _size_for(device: torch.device) -> Size:
    return ON_A_PROCESSOR if device.type == "cpu" else ON_A_CARD


@dataclass(frozen=True)
class Found:
    """What a path measures about itself."""

    rate: float
    difference: float | None = None
    notes: tuple[str, ...] = ()


Measure = Callable[[], Found]


def _tried(part: str, path: str, measure: Measure, device: torch.device) -> Tried:
    try:
        with _peak(device) as peak:
            found = measure()
    # whatever goes wrong on a device is what the report is for
    except Exception as error:
        first = (str(error).strip().splitlines() or [""])[0]
        return Tried(part, path, fault=f"{type(error).__name__}: {first}")
    return Tried(part, path, found.rate, peak.bytes, found.difference, notes=found.notes)


@dataclass
class _Peak:
    bytes: int | None = None


@contextmanager
def _peak(device: torch.device) -> Iterator[_Peak]:
    """The most memory that the block holds on a CUDA device."""
    peak = _Peak()
    if device.type != "cuda":
        yield peak
        return
    torch.cuda.reset_peak_memory_stats(device)
    yield peak
    peak.bytes = int(torch.cuda.max_memory_allocated(device))


@dataclass(frozen=True)
class _Trial:
    """The paths of a device, on invented images."""

    name: str
    device: torch.device
    size: Size
    folder: Path

    @property
    def paths(self) -> Sequence[tuple[str, str, Measure]]:
        """Part, path and what measures it; what takes long comes last."""
        train = self._train
        is_card = self.device.type == "cuda"
        steps = ("eager", "graph") if is_card else ("eager",)
        engines = ("graph", "eager") if is_card else ("eager", "traced")
        return [
            *(("training", f"step {s}", partial(train, {"step": s})) for s in steps),
            *(
                ("training", f"amp {a}", partial(train, {"amp": a}))
                for a in self._precisions
            ),
            ("synthetic", "one batch", self._synthetic),
            *(
                ("augmentation", f"light on {on}", partial(train, {}, ("light", on)))
                for on in ("host", "device")
            ),
            *(("predicting", f"engine {e}", partial(self._predict, e)) for e in engines),
            ("decoding", "JPEG files on the host", self._decode),
            *((("decoding", "JPEG files by nvJPEG", self._decode_by_nvjpeg),) * is_card),
            *(
                (("training", "step compile", partial(train, {"step": "compile"})),)
                * is_card
            ),
        ]

    @property
    def _precisions(self) -> tuple[str, ...]:
        # a processor computes float16 by itself in no layer that would be tried
        return ("off", "bf16") if self.device.type == "cpu" else ("off", "bf16", "fp16")

    def _pixels(self) -> NDArray[np.uint8]:
        shape = (self.size.images, self.size.size, self.size.size, 3)
        return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)

    def _spec(self, options: Mapping[str, Any]) -> MemberSpec:
        known = {
            key: value for key, value in options.items() if key in MemberSpec.model_fields
        }
        return MemberSpec(
            backbone=self.size.backbone,
            epochs=self.size.epochs,
            batch_size=self.size.batch,
            **known,
        )

    def _train(
        self, options: Mapping[str, Any], augment: tuple[str, str] | None = None
    ) -> Found:
        """The images a second of the last epoch of a training."""
        pixels, none = self._pixels(), np.zeros(0, np.int64)
        rows = np.arange(len(pixels))
        data = FoldData(pixels, rows % CLASSES, rows, none, CLASSES)
        chosen = None
        if augment is not None:
            preset, on = augment
            spec = {"preset": preset, "on": on}
            size = self.size.size
            chosen = choose_augment(spec, size, 3, device=self.device).augment
        heard = RecordedProgress()
        trained = train_fold(
            FoldSetup(self._spec(options), data, augment=chosen),
            execution=Execution(self.name),
            progress=heard,
        )
        return Found(len(rows) / trained.history[-1].seconds, notes=tuple(heard.notes))

    def _network(self) -> Normalised:
        torch.manual_seed(0)
        size = self.size.size
        return build_network(self._spec({}), classes=CLASSES, size=size, channels=3)

    def _synthetic(self) -> Found:
        """The images a second of eager steps on one batch that is on the device."""
        network = place_for_training(self._network().train(), "auto", self.device)
        optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, fused=True)
        images = as_images(self._pixels()[: self.size.batch], self.name)
        labels = torch.arange(len(images), device=self.device) % CLASSES
        dtype = autocast_type("auto", self.device)

        def step() -> Tensor:
            with autocast(dtype, self.device):
                logits = network(images)
            loss = nn.functional.cross_entropy(logits.float(), labels)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            return loss.detach()

        for _ in range(2):
            float(step())
        began = time.perf_counter()
        for _ in range(self.size.batches):
            last = step()
        float(last)  # waits for the device
        return Found(self.size.images / (time.perf_counter() - began))

    def _predict(self, engine: str) -> Found:
        """Images of all views a second, from pixels to logits on disk."""
        network, pixels = self._network().eval(), self._pixels()
        heard, made = RecordedProgress(), named_engine(engine, self.device.type)
        predictor = ready(
            made,
            lambda: _copied(network),
            pixels[:16],
            amp="auto",
            device=self.name,
            name=self.size.backbone,
            progress=heard,
        )
        sample = as_images(pixels[:16], self.name)
        exact = plain(_copied(network), self.name)(sample)
        apart = float(np.abs(softmax(predictor(sample)) - softmax(exact)).max())
        rows, views = np.arange(len(pixels)), expand_views(VIEWS)
        out = self.folder / f"{engine}.npy"
        asked = PredictionRequest("a", self.folder, CLASSES, views, (rows,), out)
        began = time.perf_counter()
        run_pass([asked], pixels, lambda _: [predictor], device=self.name)
        seconds = time.perf_counter() - began
        return Found(len(views) * len(rows) / seconds, apart, tuple(heard.notes))

    def _files(self) -> list[Path]:
        """JPEG files of the trial's folder."""
        from PIL import Image

        paths = []
        for i, pixels in enumerate(self._pixels()[:16]):
            paths.append(self.folder / f"{i}.jpg")
            side = (_FILE_SIDE, _FILE_SIDE)
            Image.fromarray(pixels).resize(side).save(paths[-1], quality=90)
        return paths

    def _decode(self) -> Found:
        """Files a second, by all cores."""
        paths = self._files()
        began = time.perf_counter()
        with ThreadPoolExecutor(available_cores()) as pool:
            n_decoded = len(list(pool.map(decode, paths)))
        return Found(n_decoded / (time.perf_counter() - began))

    def _decode_by_nvjpeg(self) -> Found:
        """Files a second on the card, and by how much their pixels differ from the host's.

        Runs decode on the host: pixels that depend on who decoded them would not be one data set.
        """
        from torchvision.io import decode_jpeg, read_file

        paths = self._files()
        contents = [read_file(str(path)) for path in paths]
        decode_jpeg(contents[:1], device=self.device)
        began = time.perf_counter()
        found = decode_jpeg(contents, device=self.device)
        torch.cuda.synchronize(self.device)
        seconds = time.perf_counter() - began
        apart = 0
        for path, image in zip(paths, found, strict=True):
            here = torch.from_numpy(decode(path)).permute(2, 0, 1).short()
            apart = max(apart, int((image.cpu().short() - here).abs().max()))
        return Found(
            len(paths) / seconds, notes=(f"pixels differ by up to {apart} of 255",)
        )


def _copied(network: Normalised) -> Normalised:
    return copy.deepcopy(network)
