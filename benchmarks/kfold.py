"""Training by `ens` against the loop a good engineer writes by hand, timm's train.py, and a loop that reads no images.

Same backbone, JPEG files, augmentation (--augment, by default what recipes ship), optimizer and
epochs. The sides take turns; a ratio is of neighbouring runs. Every side trains and validates,
`ens` decodes anew in every repeat, and timm's start-up is not counted.

    plain      a Dataset that opens each JPEG with Pillow, albumentations, a DataLoader, float32, AdamW, cosine
    timm       its train.py in float32, given by --timm-train (it is in timm's repository, not in its package); it has no affine
               warp, so in place of a preset it flips and crops at random
    synthetic  the same steps as `ens` takes, on one batch that lies in memory: the most that any loader could reach

With --job the sides train 5 folds of --members members, where the plain loop decodes every image 5
x members times an epoch.
"""

import argparse
import re
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import albumentations as A
import albumentations.pytorch
import numpy as np
import timm
import torch
from augmentation import FLIP, as_albumentations
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from ensembler.data.augment import build_augment
from ensembler.data.images import FileImages
from ensembler.data.pixels import prepare_pixels
from ensembler.data.spec import InputSpec
from ensembler.training.fold import train_fold
from ensembler.training.fold_data import FoldData
from ensembler.training.setup import FoldSetup
from ensembler.training.spec import MemberSpec

CLASSES = 10


@dataclass(frozen=True)
class Task:
    """What all sides train."""

    folder: Path
    paths: list[Path]
    y: np.ndarray
    backbone: str
    size: int
    epochs: int
    batch: int
    amp: str
    augment: str

    def split(self, fold=0):
        rows = np.arange(len(self.paths))
        return rows[rows % 5 != fold], rows[rows % 5 == fold]


def draw(folder: Path, n: int, side: int) -> tuple[list[Path], np.ndarray]:
    """JPEG files as an ImageFolder holds them, split as fold 0 is."""
    rng = np.random.default_rng(0)
    paths, y = [], rng.integers(0, CLASSES, n)
    for i in range(n):
        small = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        small[:, : 1 + y[i] % 8] //= 3
        image = Image.fromarray(small).resize((side, side), Image.BICUBIC)
        noisy = np.clip(
            np.asarray(image) + rng.normal(0, 12, (side, side, 3)), 0, 255
        ).astype(np.uint8)
        paths.append(folder / ("train" if i % 5 else "val") / f"class{y[i]}" / f"{i}.jpg")
        paths[-1].parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noisy).save(paths[-1], quality=85)
    return paths, y


class Files(Dataset):
    def __init__(self, task, rows, train):
        steps = as_albumentations(task.augment, task.size) if train else []
        self.task, self.rows = task, rows
        self.transform = A.Compose(
            [A.Resize(task.size, task.size), *steps, A.Normalize(), A.pytorch.ToTensorV2()]
        )

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        image = np.asarray(Image.open(self.task.paths[self.rows[i]]).convert("RGB"))
        return self.transform(image=image)["image"], self.task.y[self.rows[i]]


def plain(task, fold=0, seed=0):
    torch.manual_seed(seed)
    rows, held_out = task.split(fold)
    train = DataLoader(Files(task, rows, True), task.batch, shuffle=True)
    valid = DataLoader(Files(task, held_out, False), task.batch)
    model = timm.create_model(task.backbone, num_classes=CLASSES)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(
        optimizer, task.epochs * len(train)
    )
    for _ in range(task.epochs):
        model.train()
        for x, t in train:
            loss = torch.nn.functional.cross_entropy(model(x), t)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        model.eval()
        with torch.inference_mode():
            losses = [
                torch.nn.functional.cross_entropy(model(x), t, reduction="sum")
                for x, t in valid
            ]
    return float(sum(losses)) / len(held_out)


def ours(task, cache, fold=0, seed=0):
    pixels = prepare_pixels(FileImages(task.paths), InputSpec(size=task.size), cache)
    rows, held_out = task.split(fold)
    data = FoldData(pixels, task.y.astype(np.int64), rows, held_out, CLASSES)
    spec = MemberSpec(
        backbone=task.backbone, epochs=task.epochs, batch_size=task.batch, amp=task.amp
    )
    augment = build_augment(FLIP if task.augment == "flip" else task.augment, task.size, 3)
    return (
        train_fold(FoldSetup(spec, data, augment=augment, seed=seed)).history[-1].valid_loss
    )


def synthetic(task):
    """The steps of `ens`, validation included, on batches that are there already."""
    rows, held_out = task.split()
    rng = np.random.default_rng(0)
    pixels = rng.integers(
        0, 255, (max(task.batch, 64), task.size, task.size, 3), dtype=np.uint8
    )

    class Always(np.ndarray):
        def __getitem__(self, chosen):
            return pixels[: len(chosen)]

    there = np.zeros((len(task.paths), *pixels.shape[1:]), np.uint8).view(Always)
    data = FoldData(there, task.y.astype(np.int64), rows, held_out, CLASSES)
    spec = MemberSpec(
        backbone=task.backbone, epochs=task.epochs, batch_size=task.batch, amp=task.amp
    )
    return train_fold(FoldSetup(spec, data)).history[-1].valid_loss


def timm_train(task, script):
    """Seconds from the first step to the end, as train.py runs it; its log loss of validation."""
    options = {
        "model": task.backbone, "device": "cpu", "num-classes": CLASSES, "img-size": task.size, "batch-size": task.batch,
        "epochs": task.epochs, "opt": "adamw", "lr": 1e-3, "weight-decay": 0.01, "sched": "cosine", "warmup-epochs": 0,
        "smoothing": 0, "hflip": 0.0 if task.augment == "none" else 0.5, "color-jitter": 0, "crop-pct": 1, "workers": 2,
    }  # fmt: skip
    limits = ("1", "1") if task.augment in ("none", "flip") else ("0.8", "1.25")
    command = [
        sys.executable,
        str(script),
        str(task.folder),
        "--scale",
        limits[0],
        "1",
        "--ratio",
        *limits,
    ]
    command += [word for key, value in options.items() for word in (f"--{key}", str(value))]
    with tempfile.TemporaryDirectory() as out:
        process = subprocess.Popen(
            [*command, "--output", out],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        began, losses, lines = None, [], []
        for line in process.stdout:
            lines.append(line)
            if began is None and line.lstrip().startswith("Train: 0"):
                began = time.perf_counter()
            losses += [
                float(loss)
                for loss in re.findall(r"Test: .*Loss: +[\d.]+ \( *([\d.]+)\)", line)
            ]
        if process.wait() or began is None:
            raise SystemExit("".join(lines[-20:]))
    return time.perf_counter() - began, losses[-1] if losses else float("nan")


def timed(side, *given):
    began = time.perf_counter()
    loss = side(*given)
    return time.perf_counter() - began, loss


def compare(task, repeats, script):
    ratios, losses = {}, {}
    first = replace(task, paths=task.paths[: 5 * task.batch], epochs=1)
    plain(first), ours(first, task.folder / "first")  # imports and first steps are nobody's
    for i in range(repeats):
        seconds = {}
        # A cache of its own each time: decoding is part of what is timed.
        sides = {
            "plain": (plain,),
            "ens": (ours, task.folder / f"cache{i}"),
            "synthetic": (synthetic,),
        }
        for name, (side, *given) in sides.items():
            seconds[name], loss = timed(side, task, *given)
            losses.setdefault(name, []).append(loss)
        if script is not None:
            seconds["timm"], loss = timm_train(task, script)
            losses.setdefault("timm", []).append(loss)
        rate = len(task.split()[0]) * task.epochs / seconds["ens"]
        print(
            ", ".join(f"{k} {v:.1f} s" for k, v in seconds.items()),
            f"({rate:.0f} images/s)",
            flush=True,
        )
        for name in set(seconds) - {"ens"}:
            ratios.setdefault(name, []).append(seconds[name] / seconds["ens"])
    for name, found in ratios.items():
        print(
            f"ens against {name}: {statistics.median(found):.2f} x ({min(found):.2f} to "
            f"{max(found):.2f})"
        )
    told = {k: statistics.median(v) for k, v in losses.items() if k != "synthetic"}
    print(
        "validation log loss, median:", ", ".join(f"{k} {v:.3f}" for k, v in told.items())
    )


def compare_jobs(task, repeats, members):
    jobs = [(fold, seed) for seed in range(members) for fold in range(5)]
    ratios = []
    for i in range(repeats):
        cache = task.folder / f"cache{i}"
        seconds, losses = {}, {}
        for name, side in (
            ("plain", plain),
            ("ens", lambda t, f, s, cache=cache: ours(t, cache, f, s)),
        ):
            began = time.perf_counter()
            losses[name] = float(np.mean([side(task, fold, seed) for fold, seed in jobs]))
            seconds[name] = time.perf_counter() - began
        ratios.append(seconds["plain"] / seconds["ens"])
        print(
            ", ".join(
                f"{k} {v:.1f} s (log loss {losses[k]:.3f})" for k, v in seconds.items()
            ),
            flush=True,
        )
    print(
        f"{len(jobs)} trainings, ens against plain: {statistics.median(ratios):.2f} x "
        f"({min(ratios):.2f} to {max(ratios):.2f})"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument(
        "--size", type=int, default=64, help="what the network sees, in pixels"
    )
    parser.add_argument("--side", type=int, default=128, help="the files, in pixels")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--amp", default="auto", help="precision of ens: auto, off, bf16")
    parser.add_argument(
        "--augment", default="light", choices=["none", "flip", "light", "medium", "heavy"]
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--timm-train", type=Path, metavar="TRAIN.PY")
    parser.add_argument("--job", action="store_true", help="5 folds of --members members")
    parser.add_argument("--members", type=int, default=3)
    a = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        paths, y = draw(Path(name), a.images, a.side)
        task = Task(
            Path(name), paths, y, a.backbone, a.size, a.epochs, a.batch, a.amp, a.augment
        )
        if a.job:
            compare_jobs(task, a.repeats, a.members)
        else:
            compare(task, a.repeats, a.timm_train)


if __name__ == "__main__":
    main()
