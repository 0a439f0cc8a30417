"""On a GPU: `ens` beside what a card allows and what is written by hand, each part in one run of its own.

    python benchmarks/gpu.py --part train      # training: plain, resident, synthetic, compiled, ens
    python benchmarks/gpu.py --part presets    # what augmentation costs on the device and on the host
    python benchmarks/gpu.py --part tta        # 5 checkpoints x 4 views: forward alone, ttach, ens
    python benchmarks/gpu.py --part job        # 5 folds x 3 members: `ens run` against plain loops, start to submission
    python benchmarks/gpu.py --part start      # from the start of a command to 64 predictions, against a bare script
    python benchmarks/gpu.py --part train --seeds 3   # the accuracy of plain and ens, seed by seed

    plain      a Dataset that opens each JPEG with Pillow, albumentations, persistent workers, pinned memory, bf16
               autocast, channels-last, fused AdamW
    resident   uint8 pixels on the card, gathered and flipped there, eager steps
    synthetic  the eager step on one batch that is on the card: what a loader that costs nothing would reach
    compiled   resident with torch.compile(mode="reduce-overhead")
    forward    the prepared networks of ens on one batch that is on the card

All sides train on the same rows of the same drawn files and validate after every epoch. Rates are
medians of the epochs after the first, of training alone; seconds of validation and of everything
that is no epoch (start-up: decoding, loaders, compiling) are given beside them. Every part writes a
table and, with --out, a JSON file with card and versions. `--device cpu` runs the same code with
test networks at 32 px, to see that it runs; its figures mean nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import timm
import torch
from PIL import Image
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset

from ensembler.data.images import FileImages
from ensembler.data.on_device.choose import choose_augment
from ensembler.data.pixels import prepare_pixels
from ensembler.data.spec import InputSpec
from ensembler.inference.engines.choose import CHECKED, ready
from ensembler.inference.engines.eager import plain as plain_predictor
from ensembler.inference.one_pass import PredictionRequest, run_pass
from ensembler.inference.predictor import ON_DEVICE, as_images, logits_on_device
from ensembler.inference.views import expand_views
from ensembler.logits import softmax
from ensembler.machine.cores import available_cores
from ensembler.machine.environment import versions
from ensembler.machine.execution import Execution
from ensembler.networks.build import build_network
from ensembler.networks.checkpoint import load_checkpoint, save_checkpoint
from ensembler.networks.devices import autocast, autocast_type, pick_device
from ensembler.networks.devices_here import devices_here
from ensembler.networks.spec import NetworkSpec
from ensembler.progress import RecordedProgress
from ensembler.training.fold import train_fold
from ensembler.training.fold_data import FoldData
from ensembler.training.setup import FoldSetup
from ensembler.training.spec import MemberSpec

CLASSES = 10
VIEWS = ("identity", "hflip", "vflip", "rot180")  # ttach's flip_transform
FLIP = {"transforms": ["HorizontalFlip"]}
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Case:
    """A network, the side of its images, and its batch."""

    backbone: str
    size: int
    batch: int

    def __str__(self) -> str:
        return f"{self.backbone}, {self.size} px, batch {self.batch}"


@dataclass(frozen=True)
class Scale:
    """How large everything is."""

    files: int
    side: int
    epochs: int
    workers: int
    train: tuple[Case, ...]
    presets: tuple[Case, ...]
    tta: Case
    tta_files: int
    start: Case
    job: tuple[str, ...]
    job_case: Case
    job_files: int
    folds: int
    compiler: dict
    batches: int  # of synthetic steps
    seeds: int = 1


def on_a_card() -> Scale:
    small, large = Case("resnet18", 64, 64), Case("resnet50", 224, 64)
    return Scale(
        files=4473,
        side=128,
        epochs=4,
        workers=min(12, max(1, available_cores() - 2)),
        train=(small, large, Case("vit_small_patch16_224", 224, 64)),
        presets=(small, large),
        tta=Case("resnet50", 224, 64),
        tta_files=4473,
        start=Case("resnet50", 224, 64),
        job=("resnet18", "convnext_atto", "efficientnet_b0"),
        job_case=Case("", 96, 64),
        job_files=4473,
        folds=5,
        compiler={"mode": "reduce-overhead"},
        batches=50,
    )


def on_a_processor() -> Scale:
    tiny = Case("test_resnet", 32, 8)
    return Scale(
        files=40,
        side=40,
        epochs=2,
        workers=0,
        train=(tiny,),
        presets=(tiny,),
        tta=tiny,
        tta_files=24,
        start=tiny,
        job=("test_resnet",),
        job_case=tiny,
        job_files=60,
        folds=2,
        compiler={"backend": "eager"},
        batches=3,
    )


@dataclass(frozen=True)
class Task:
    """What all sides of a comparison are given."""

    folder: Path
    paths: list[Path]
    y: np.ndarray
    train: np.ndarray
    valid: np.ndarray
    case: Case
    scale: Scale
    device: torch.device
    seed: int = 0

    @property
    def dtype(self):
        return autocast_type("auto", self.device)


@dataclass
class Side:
    """What one side took: seconds of training and of validation by epoch, and of everything."""

    name: str
    images: int
    training: list[float] = field(default_factory=list)
    validating: list[float] = field(default_factory=list)
    seconds: float = 0.0
    accuracy: float | None = None
    note: str = ""

    @property
    def rate(self) -> float:
        return self.images / middle(self.training)

    @property
    def epoch_rate(self) -> float:
        return self.images / (middle(self.training) + middle(self.validating))

    @property
    def start(self) -> float:
        a_usual_epoch = middle(self.training) + middle(self.validating)
        return max(0.0, self.seconds - len(self.training) * a_usual_epoch)

    def to_json(self) -> dict:
        return {
            **asdict(self),
            "train_images_a_second": self.rate,
            "images_a_second_with_validation": self.epoch_rate,
            "seconds_of_start": self.start,
        }


def middle(seconds: list[float]) -> float:
    """The median of all but the first; 0 where there is none."""
    return statistics.median(seconds[1:] or seconds or [0.0])


def wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


# --- files ----------------------------------------------------------------------------------------


def draw(folder: Path, n: int, side: int) -> tuple[list[Path], np.ndarray]:
    """JPEG files of ten kinds that a network can learn: where a bright patch lies, and its colour."""
    y = np.random.default_rng(0).integers(0, CLASSES, n)
    paths = [folder / "images" / f"{i:05d}.jpg" for i in range(n)]
    (folder / "images").mkdir(parents=True, exist_ok=True)

    def write(i: int) -> None:
        rng = np.random.default_rng([1, i])
        coarse = rng.integers(40, 160, (8, 8, 3), dtype=np.uint8)
        top, left = rng.integers(0, 5, 2)
        patch = coarse[top : top + 3, left : left + 3]
        patch[:] = 40
        patch[..., y[i] % 3] = 150 + 30 * (y[i] // 3)
        image = np.asarray(Image.fromarray(coarse).resize((side, side), Image.BICUBIC))
        noisy = np.clip(image + rng.normal(0, 20, image.shape), 0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(paths[i], quality=88)

    with ThreadPoolExecutor(available_cores()) as pool:
        list(pool.map(write, range(n)))
    return paths, y


def task_of(folder: Path, case: Case, scale: Scale, device: torch.device, n: int) -> Task:
    paths, y = draw(folder, n, scale.side)
    rows = np.arange(n)
    return Task(
        folder, paths, y, rows[rows % 5 > 0], rows[rows % 5 == 0], case, scale, device
    )


# --- training -------------------------------------------------------------------------------------


class Files(Dataset):
    """Files as they are opened by hand."""

    def __init__(self, task: Task, rows: np.ndarray, train: bool) -> None:
        import albumentations as A
        import albumentations.pytorch

        self.paths, self.y, self.rows = task.paths, task.y, rows
        size = task.case.size
        flip = [A.HorizontalFlip()] if train else []
        self.transform = A.Compose(
            [A.Resize(size, size), *flip, A.Normalize(MEAN, STD), A.pytorch.ToTensorV2()]
        )

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i):
        image = np.asarray(Image.open(self.paths[self.rows[i]]).convert("RGB"))
        return self.transform(image=image)["image"], self.y[self.rows[i]]


def loader_of(task: Task, rows: np.ndarray, *, train: bool) -> DataLoader:
    return DataLoader(
        Files(task, rows, train),
        task.case.batch,
        shuffle=train,
        num_workers=task.scale.workers,
        pin_memory=task.device.type == "cuda",
        persistent_workers=task.scale.workers > 0,
    )


def network_of(task: Task) -> torch.nn.Module:
    torch.manual_seed(task.seed)
    network = timm.create_model(task.case.backbone, num_classes=CLASSES)
    return network.to(task.device).to(memory_format=torch.channels_last)


class Steps:
    """The steps of a loop by hand: bf16 autocast, fused AdamW, a cosine."""

    def __init__(self, task: Task, network, steps: int, call=None) -> None:
        self.task, self.network = task, network
        self.call = network if call is None else call
        self.optimizer = torch.optim.AdamW(
            network.parameters(), lr=1e-3, weight_decay=0.01, fused=True
        )
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, steps)

    def take(self, images, labels) -> None:
        self.network.train()
        with autocast(self.task.dtype, self.task.device):
            logits = self.call(images)
        loss = cross_entropy(logits.float(), labels)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self.schedule.step()

    @torch.no_grad()
    def right(self, images, labels):
        self.network.eval()
        with autocast(self.task.dtype, self.task.device):
            return (self.network(images).argmax(1) == labels).sum()


def run_epochs(
    task: Task, side: Side, train: Callable[[], None], right: Callable[[], float]
) -> Side:
    """Train and validate epoch after epoch, each timed when the device is done."""
    for _ in range(task.scale.epochs):
        began = time.perf_counter()
        train()
        wait_for(task.device)
        trained = time.perf_counter()
        side.accuracy = right()
        side.training.append(trained - began)
        side.validating.append(time.perf_counter() - trained)
    return side


def plain(task: Task) -> Side:
    return plain_training(task)[0]


def plain_training(task: Task) -> tuple[Side, torch.nn.Module]:
    """The loop by hand, and the network that it leaves."""
    train = loader_of(task, task.train, train=True)
    valid = loader_of(task, task.valid, train=False)
    network = network_of(task)
    steps = Steps(task, network, task.scale.epochs * len(train))

    def moved(loader):
        for images, labels in loader:
            images = images.to(task.device, non_blocking=True)
            yield (
                images.to(memory_format=torch.channels_last),
                labels.to(task.device, non_blocking=True),
            )

    def one_epoch() -> None:
        for images, labels in moved(train):
            steps.take(images, labels)

    def right() -> float:
        return float(sum(steps.right(*batch) for batch in moved(valid))) / len(task.valid)

    return run_epochs(task, Side("plain", len(task.train)), one_epoch, right), network


def resident(task: Task, *, compiled: bool = False) -> Side:
    pixels = prepare_pixels(
        FileImages(task.paths), InputSpec(size=task.case.size), task.folder / "resident"
    )
    there = torch.from_numpy(np.array(pixels)).to(task.device)
    labels = torch.from_numpy(task.y).to(task.device)
    mean, std = (
        255 * torch.tensor(v, device=task.device).view(1, 3, 1, 1) for v in (MEAN, STD)
    )
    network, batch = network_of(task), task.case.batch
    n_steps = -(-len(task.train) // batch)
    call = torch.compile(network, **task.scale.compiler) if compiled else None
    steps = Steps(task, network, task.scale.epochs * n_steps, call)
    rng = np.random.default_rng(task.seed)

    def gathered(rows: np.ndarray, *, flips: bool):
        places = torch.from_numpy(rows).to(task.device)
        for start in range(0, len(rows), batch):
            chosen = places[start : start + batch]
            if compiled and flips and len(chosen) < batch:
                return  # another shape would be compiled again
            images = there[chosen].permute(0, 3, 1, 2)
            if flips:
                mirrored = torch.rand(len(chosen), device=task.device) < 0.5
                images = torch.where(mirrored.view(-1, 1, 1, 1), images.flip(3), images)
            images = ((images.float() - mean) / std).contiguous(
                memory_format=torch.channels_last
            )
            yield images, labels[chosen]

    def one_epoch() -> None:
        for images, targets in gathered(rng.permutation(task.train), flips=True):
            steps.take(images, targets)

    def right() -> float:
        batches = gathered(task.valid, flips=False)
        return float(sum(steps.right(*one) for one in batches)) / len(task.valid)

    name = "compiled" if compiled else "resident"
    return run_epochs(task, Side(name, len(task.train)), one_epoch, right)


def compiled(task: Task) -> Side:
    return resident(task, compiled=True)


def synthetic(task: Task) -> Side:
    """One batch again and again; there is nothing to validate."""
    n = task.case.batch
    images = torch.randn(n, 3, task.case.size, task.case.size, device=task.device)
    images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.arange(n, device=task.device) % CLASSES
    steps = Steps(task, network_of(task), task.scale.epochs * task.scale.batches)
    side = Side("synthetic", n * task.scale.batches)
    for _ in range(task.scale.epochs):
        began = time.perf_counter()
        for _ in range(task.scale.batches):
            steps.take(images, labels)
        wait_for(task.device)
        side.training.append(time.perf_counter() - began)
    return side


def ens(task: Task, augment=None, name: str = "ens") -> Side:
    """`ens` as a recipe with these options trains a fold."""
    augment = FLIP if augment is None else augment
    pixels = prepare_pixels(
        FileImages(task.paths), InputSpec(size=task.case.size), task.folder / "ens"
    )
    data = FoldData(pixels, task.y.astype(np.int64), task.train, task.valid, CLASSES)
    spec = MemberSpec(
        backbone=task.case.backbone,
        epochs=task.scale.epochs,
        batch_size=task.case.batch,
        val_interval=1,
    )
    chosen = choose_augment(augment, task.case.size, 3, device=task.device)
    heard = RecordedProgress()
    trained = train_fold(
        FoldSetup(spec, data, augment=chosen.augment, seed=task.seed),
        execution=Execution(str(task.device)),
        progress=heard,
    )
    side = Side(
        name, len(task.train), note="; ".join([chosen.note, *heard.notes]).strip("; ")
    )
    for record in trained.history:
        side.training.append(record.seconds - record.validating)
        side.validating.append(record.validating)
    side.accuracy = trained.history[-1].score
    return side


def timed(side: Callable[[Task], Side], task: Task) -> Side:
    began = time.perf_counter()
    found = side(task)
    wait_for(task.device)
    found.seconds = time.perf_counter() - began
    if task.device.type == "cuda":
        torch.cuda.empty_cache()
    return found


def warmed_up(task: Task) -> None:
    """What a process pays once, whoever comes first: CUDA, its libraries, imports."""
    network = network_of(task)
    images = torch.zeros(2, 3, task.case.size, task.case.size, device=task.device)
    network(images).sum().backward()
    wait_for(task.device)


def part_train(folder: Path, scale: Scale, device: torch.device) -> list[dict]:
    rows = []
    for i, case in enumerate(scale.train):
        task = task_of(folder / str(i), case, scale, device, scale.files)
        warmed_up(task)
        if scale.seeds > 1:
            rows += by_seed(task)
            continue
        # compiling takes half a minute for each network: it is the measure of the small one
        sides = [plain, resident, synthetic, *([compiled] if i == 0 else []), ens]
        found = [timed(side, task) for side in sides]
        rows += [{"case": str(case), **side.to_json()} for side in found]
        show(rows[-len(found) :], against=("plain", "synthetic", "compiled"))
    return rows


def by_seed(task: Task) -> list[dict]:
    """The validation accuracy after the last epoch, seed by seed."""
    rows = []
    for seed in range(task.scale.seeds):
        of_seed = replace(task, seed=seed)
        for side in (plain, ens):
            found = timed(side, of_seed)
            rows.append({"case": str(task.case), "seed": seed, **found.to_json()})
    for name in ("plain", "ens"):
        scores = [row["accuracy"] for row in rows if row["name"] == name]
        print(
            f"{task.case}: {name} {np.mean(scores):.3f} ({min(scores):.3f} to {max(scores):.3f})"
        )
    return rows


def part_presets(folder: Path, scale: Scale, device: torch.device) -> list[dict]:
    rows = []
    asked = {
        "none": "none",
        **{f"{p} on device": {"preset": p, "on": "device"} for p in ("light", "heavy")},
        **{f"{p} on host": {"preset": p, "on": "host"} for p in ("light", "heavy")},
        "flip": FLIP,
    }
    for i, case in enumerate(scale.presets):
        task = task_of(folder / str(i), case, scale, device, scale.files)
        warmed_up(task)
        timed(lambda t: ens(t, "none"), task)  # decoding and first steps are nobody's
        found = [timed(lambda t, s=s, n=n: ens(t, s, n), task) for n, s in asked.items()]
        rows += [{"case": str(case), **side.to_json()} for side in found]
        show(rows[-len(found) :], against=("none",))
    return rows


# --- prediction -----------------------------------------------------------------------------------


def checkpoints(folder: Path, case: Case, n: int) -> list[Path]:
    """Untrained networks, whose batch norms have seen noise: they take as long as trained ones."""
    paths, spec = [], NetworkSpec(backbone=case.backbone)
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(n):
        torch.manual_seed(k)
        network = build_network(spec, classes=CLASSES, size=case.size, channels=3).train()
        with torch.no_grad():
            network(torch.randint(0, 256, (8, 3, case.size, case.size), dtype=torch.uint8))
        paths.append(folder / f"fold{k}.safetensors")
        shape = {"classes": CLASSES, "size": case.size, "channels": 3}
        save_checkpoint(paths[-1], network.eval(), spec, shape, {})
    return paths


def with_ttach(task: Task, weights: list[Path]) -> float:
    """Seconds of ttach's wrapper looped over the checkpoints, each reading the files again."""
    import ttach

    began = time.perf_counter()
    for path in weights:
        network = load_checkpoint(path, str(task.device)).network
        model = ttach.ClassificationTTAWrapper(
            network, ttach.aliases.flip_transform()
        ).eval()
        with torch.inference_mode(), autocast(task.dtype, task.device):
            for images, _ in loader_of(task, np.arange(len(task.paths)), train=False):
                images = images.to(task.device, non_blocking=True)
                model(images.to(memory_format=torch.channels_last)).float().cpu()
    return time.perf_counter() - began


def part_tta(folder: Path, scale: Scale, device: torch.device) -> list[dict]:
    task = task_of(folder, scale.tta, scale, device, scale.tta_files)
    weights = checkpoints(folder / "weights", task.case, 5)
    warmed_up(task)
    began = time.perf_counter()
    pixels = prepare_pixels(
        FileImages(task.paths), InputSpec(size=task.case.size), folder / "cache"
    )
    decoded = time.perf_counter()
    heard = RecordedProgress()
    predictors = [
        ready(
            "default",
            lambda path=path: load_checkpoint(path, str(device)),
            pixels[np.arange(min(CHECKED, len(pixels)))],
            amp="auto",
            device=str(device),
            name=path.stem,
            progress=heard,
        )
        for path in weights
    ]
    prepared = time.perf_counter()
    views, rows = expand_views(VIEWS), np.arange(len(task.paths))

    def once(again: str) -> float:
        asked = [
            PredictionRequest(
                p.stem, p, CLASSES, views, (rows,), folder / again / f"{p.stem}.npy"
            )
            for p in weights
        ]
        start = time.perf_counter()
        run_pass(asked, pixels, lambda _: predictors, device=str(device))
        return time.perf_counter() - start

    once("first")  # pixels go to the card
    passes = [once(f"again{i}") for i in range(3)]
    forward = [forward_alone(task, predictors, pixels) for _ in range(3)]
    images = len(task.paths)
    sample = as_images(pixels[np.arange(min(CHECKED, len(pixels)))], str(device))
    exact = plain_predictor(load_checkpoint(weights[0], str(device)), str(device))(sample)
    apart = float(np.abs(softmax(predictors[0](sample)) - softmax(exact)).max())
    found = [
        {"name": "forward", "images_a_second": images / statistics.median(forward)},
        {
            "name": "ens",
            "images_a_second": images / statistics.median(passes),
            "seconds_of_decoding": decoded - began,
            "seconds_of_preparing": prepared - decoded,
            "largest_difference": apart,
            "note": "; ".join(heard.notes),
        },
    ]
    if find_spec("ttach") is not None:
        found.append(
            {"name": "ttach", "images_a_second": images / with_ttach(task, weights)}
        )
    rows_found = [{"case": f"5 x 4, {task.case}", **row} for row in found]
    show(rows_found, against=("forward", "ttach"), rate="images_a_second")
    return rows_found


def forward_alone(task: Task, predictors, pixels) -> float:
    """Seconds of the prepared networks for as many views of as many images, on one batch."""
    n = min(ON_DEVICE, len(pixels))
    images = as_images(pixels[np.arange(n)], str(task.device))
    began = time.perf_counter()
    for start in range(0, len(pixels), n):
        part = images[: min(n, len(pixels) - start)]
        for _ in VIEWS:
            for predictor in predictors:
                logits_on_device(predictor, part)
    wait_for(task.device)
    return time.perf_counter() - began


# --- a whole job ----------------------------------------------------------------------------------


def part_job(folder: Path, scale: Scale, device: torch.device) -> list[dict]:
    """`ens run` and plain loops, each in a process of its own, from start to a submission."""
    paths, y = draw(folder, scale.job_files, scale.side)
    names = [str(path.relative_to(folder)) for path in paths]
    pd.DataFrame({"path": names, "label": [f"c{k}" for k in y]}).to_csv(
        folder / "train.csv", index=False
    )
    (folder / "recipe.yaml").write_text(job_recipe(scale))
    sides = {
        "ens run": [
            sys.executable,
            "-m",
            "ensembler",
            "run",
            "recipe.yaml",
            "--device",
            str(device),
            "-q",
        ],
        "plain loops": [
            sys.executable,
            __file__,
            "--plain-job",
            str(folder),
            "--device",
            str(device),
        ],
    }
    rows = []
    for name, command in sides.items():
        began = time.perf_counter()
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, env=environment()
        )
        if done.returncode:
            raise SystemExit(f"{name}: {done.stderr[-2000:]}")
        seconds = time.perf_counter() - began
        rows.append({"case": job_name(scale), "name": name, "seconds": seconds})
    rows[0] |= of_run(folder / "artifacts" / "job", scale)
    rows[1] |= json.loads((folder / "plain.json").read_text())
    for row in rows:
        told = ", ".join(f"{k} {v:.1f}" for k, v in row.items() if isinstance(v, float))
        print(f"{row['case']}, {row['name']}: {told}")
    print(f"ens run takes {rows[0]['seconds'] / rows[1]['seconds']:.2f} of the plain loops")
    return rows


def environment() -> dict[str, str]:
    """What processes are started with: this very package, wherever it lies."""
    here = str(Path(__file__).resolve().parents[1])
    inherited = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": f"{here}:{inherited}" if inherited else here}


def job_name(scale: Scale) -> str:
    return f"{scale.folds} folds x {len(scale.job)} members, {scale.job_case.size} px, {scale.job_files} files"


def job_recipe(scale: Scale) -> str:
    members = "\n".join(f"  {name}: {{backbone: {name}}}" for name in scale.job)
    return f"""name: job
data: {{source: train.csv, targets: label}}
folds: {{count: {scale.folds}, holdout: 0.2}}
input: {{size: {scale.job_case.size}}}
augment: {{transforms: [HorizontalFlip]}}
views: [identity, hflip]
defaults: {{epochs: {scale.epochs}, batch_size: {scale.job_case.batch}, val_interval: 1}}
members:
{members}
"""


def of_run(run: Path, scale: Scale) -> dict:
    """Seconds of the epochs of a run, and the holdout accuracy of the mean of its members."""
    training = validating = 0.0
    probs = []
    samples = pd.read_csv(run / "samples.csv")
    truth = samples[samples["split"] == "test"]["label"].to_numpy()
    for name in scale.job:
        record = json.loads((run / "members" / name / "member.json").read_text())
        validating += sum(e.get("validating", 0.0) for f in record["history"] for e in f)
        training += sum(e["seconds"] for f in record["history"] for e in f)
        logits = np.load(run / "members" / name / "test.npy").astype(np.float32)
        probs.append(softmax(logits).mean(axis=(0, 1)))
        classes = np.array(record["classes"])
    right = classes[np.mean(probs, axis=0).argmax(1)] == truth
    return {
        "seconds_training": training - validating,
        "seconds_validating": validating,
        "holdout_accuracy": float(right.mean()),
    }


def plain_job(folder: Path, scale: Scale, device: torch.device) -> None:
    """The same folds and members by plain loops; a submission is their mean over two views."""
    samples = pd.read_csv(folder / "artifacts" / "job" / "samples.csv")
    table = pd.read_csv(folder / "train.csv").set_index("path").loc[samples["id"]]
    classes = sorted(set(table["label"]))
    y = table["label"].map(classes.index).to_numpy()
    paths = [folder / path for path in table.index]
    test = np.flatnonzero(samples["split"] == "test")
    training = validating = 0.0
    probs = []
    for backbone in scale.job:
        case = Case(backbone, scale.job_case.size, scale.job_case.batch)
        for fold in range(scale.folds):
            train = np.flatnonzero(
                (samples["split"] == "train") & (samples["fold"] != fold)
            )
            valid = np.flatnonzero(samples["fold"] == fold)
            task = Task(folder, paths, y, train, valid, case, scale, device, seed=fold)
            side, network = plain_training(task)
            training += sum(side.training)
            validating += sum(side.validating)
            probs.append(two_views(task, network, test))
    mean = np.mean(probs, axis=0)
    answer = [classes[k] for k in mean.argmax(1)]
    out = pd.DataFrame({"id": samples["id"].to_numpy()[test], "label": answer})
    out.to_csv(folder / "plain.csv", index=False)
    found = {
        "seconds_training": training,
        "seconds_validating": validating,
        "holdout_accuracy": float((mean.argmax(1) == y[test]).mean()),
    }
    (folder / "plain.json").write_text(json.dumps(found))


@torch.inference_mode()
def two_views(task: Task, network, rows: np.ndarray) -> np.ndarray:
    network.eval()
    found = []
    for images, _ in loader_of(task, rows, train=False):
        images = images.to(task.device).to(memory_format=torch.channels_last)
        with autocast(task.dtype, task.device):
            logits = [network(view).float() for view in (images, images.flip(3))]
        found.append(torch.stack(logits).softmax(-1).mean(0).cpu().numpy())
    return np.concatenate(found)


# --- start-up -------------------------------------------------------------------------------------

BARE = """
import sys
from pathlib import Path
import timm, torch
from safetensors.torch import load_file
folder, backbone, device = sys.argv[1:]
torch.zeros(1, device=device)
for path in sorted(Path(folder).glob("fold*.safetensors")):
    network = timm.create_model(backbone, num_classes=10).eval()
    network.load_state_dict(load_file(path))
    network.to(device)
"""


def part_start(folder: Path, scale: Scale, device: torch.device) -> list[dict]:
    """Whole processes: 64 predictions of a finished run with five checkpoints, and a bare script."""
    paths, y = draw(folder, 64, scale.side)
    names = [str(path.relative_to(folder)) for path in paths]
    pd.DataFrame({"path": names, "label": [f"c{k}" for k in y]}).to_csv(
        folder / "train.csv", index=False
    )
    pd.DataFrame({"path": names}).to_csv(folder / "new.csv", index=False)
    case = scale.start
    (folder / "recipe.yaml").write_text(
        f"""name: start
data: {{source: train.csv, targets: label}}
folds: {{count: 5, scheme: plain}}
input: {{size: {case.size}}}
augment: none
views: [identity, hflip, vflip, rot180]
members:
  cnn: {{backbone: {case.backbone}, epochs: 1, batch_size: {case.batch}}}
"""
    )
    ens_command = [sys.executable, "-m", "ensembler"]
    used([*ens_command, "run", "recipe.yaml", "--device", str(device), "-q"], folder)
    (folder / "bare.py").write_text(BARE)
    weights = folder / "artifacts" / "start" / "members" / "cnn"
    predict = ["tta-predict", "start", "--data", "new.csv", "--device", str(device), "-q"]
    sides = {
        "import torch, timm": [sys.executable, "-c", "import torch, timm"],
        "bare script": [
            sys.executable,
            "bare.py",
            str(weights),
            case.backbone,
            str(device),
        ],
        "ens tta-predict": [*ens_command, *predict],
    }
    rows = []
    for name, command in sides.items():
        used(command, folder)  # byte-compiles, and fills the disk's cache
        found = [used(command, folder) for _ in range(3 if device.type == "cuda" else 1)]
        wall, cpu = (statistics.median(column) for column in zip(*found, strict=True))
        rows.append(
            {
                "case": f"5 checkpoints, {case}",
                "name": name,
                "seconds": wall,
                "cpu_seconds": cpu,
            }
        )
        print(f"{name}: {wall:.1f} s, {cpu:.1f} CPU seconds")
    for key in ("seconds", "cpu_seconds"):
        print(f"ens against the bare script, {key}: {rows[2][key] / rows[1][key]:.2f}")
    return rows


def used(command: list[str], folder: Path) -> tuple[float, float]:
    """Seconds and CPU seconds of a process."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, env=environment()
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: {done.stderr[-2000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - began, cpu


# --- tables ---------------------------------------------------------------------------------------


def show(
    rows: list[dict], against: tuple[str, ...], rate: str = "train_images_a_second"
) -> None:
    """A table of one case: rates, and ratios to the sides in `against`."""
    bounds = {row["name"]: row[rate] for row in rows if row["name"] in against}
    print(rows[0]["case"])
    for row in rows:
        ratios = [f"{row[rate] / bound:.2f} x {name}" for name, bound in bounds.items()]
        facts = [f"{row[rate]:,.0f} images/s", *ratios]
        if "validating" in row:
            facts.append(f"validation {middle(row['validating']):.2f} s an epoch")
            facts.append(f"start-up {row['seconds_of_start']:.1f} s")
        if row.get("accuracy") is not None:
            facts.append(f"accuracy {row['accuracy']:.3f}")
        facts += [
            f"{k} {v:.3g}"
            for k, v in row.items()
            if k.startswith(("seconds_of_d", "seconds_of_p", "largest"))
        ]
        if row.get("note"):
            facts.append(row["note"])
        print(f"  {row['name']}: {', '.join(facts)}", flush=True)


def described(device: torch.device, part: str) -> dict:
    devices, problems = devices_here()
    return {
        "part": part,
        "device": str(device),
        "devices": devices,
        "problems": problems,
        "cores": available_cores(),
        "versions": versions(),
        "cuda": torch.version.cuda,
    }


PARTS = {
    "train": part_train,
    "presets": part_presets,
    "tta": part_tta,
    "job": part_job,
    "start": part_start,
}


def main(given: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--part", choices=PARTS, default="train")
    parser.add_argument("--device", default="auto")
    parser.add_argument(
        "--seeds", type=int, default=1, help="with --part train: accuracies by seed"
    )
    parser.add_argument("--out", type=Path, help="a JSON file of all figures")
    parser.add_argument("--plain-job", type=Path, help=argparse.SUPPRESS)
    a = parser.parse_args(given)
    device = pick_device(a.device)
    scale = on_a_card() if device.type == "cuda" else on_a_processor()
    if a.plain_job is not None:
        plain_job(a.plain_job, scale, device)
        return
    about = described(device, a.part)
    print(", ".join([*about["devices"], f"torch {about['versions']['torch']}"]))
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        rows = PARTS[a.part](Path(name), replace(scale, seeds=a.seeds), device)
    about["seconds"] = time.perf_counter() - began
    print(f"{about['seconds']:.0f} s in all")
    if a.out is not None:
        a.out.write_text(json.dumps({**about, "rows": rows}, indent=1, default=str))


if __name__ == "__main__":
    main()
