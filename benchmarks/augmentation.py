"""The augmentation presets on real images: scores with each against none, by number of epochs, and what an image costs.

FOLDER holds fashion-mnist/ (the four idx files) or clothing-128/ (manifest.csv and images/), or
both. Every preset trains the same network on the same rows with the same seeds and is scored on
rows that nobody trained on (of clothing: photographs by other people). Gains are paired by row (or
person), their intervals know rows and seeds, and hold for all presets of a line at once.

    python benchmarks/augmentation.py FOLDER --out RESULTS        # what is in RESULTS already is not trained again
    python benchmarks/augmentation.py --cost                      # CPU microseconds an image
"""

import argparse
import hashlib
import json
import random
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from ensembler.blending.judging.comparison import compare_with_first
from ensembler.data import presets
from ensembler.data.augment import augment_version, build_augment, sample_seed
from ensembler.data.folds import split_samples
from ensembler.data.pixels import prepare_pixels
from ensembler.data.samples import read_samples
from ensembler.data.spec import DataSpec, FoldSpec, InputSpec
from ensembler.machine.execution import Execution
from ensembler.metrics import score
from ensembler.training.fold import train_fold
from ensembler.training.fold_data import FoldData
from ensembler.training.setup import FoldSetup
from ensembler.training.spec import MemberSpec

PRESETS = ["none", "light", "medium", "heavy"]
METRICS = ("accuracy", "log_loss")
FLIP = ({"HorizontalFlip": {"p": 0.5}},)


def as_albumentations(name, size):
    """What somebody would write by hand in the place of a preset: each part a transform of its own."""
    import albumentations as A

    preset = presets.Preset(flip=0.5) if name == "flip" else presets.PRESETS[name]
    steps = []
    if preset.crop:
        c = preset.crop
        steps.append(A.RandomResizedCrop((size, size), scale=c.area, ratio=c.ratio, p=c.p))
    if preset.flip:
        steps.append(A.HorizontalFlip(p=preset.flip))
    if preset.affine:
        a = preset.affine
        limits = {
            "rotate": a.rotate,
            "translate_percent": (-a.shift, a.shift),
            "scale": (1 - a.scale, 1 + a.scale),
        }
        steps.append(A.Affine(**limits, border_mode=cv2.BORDER_REFLECT_101, p=a.p))
    if preset.tone:
        t = preset.tone
        steps.append(
            A.RandomBrightnessContrast(
                brightness_limit=t.brightness, contrast_limit=t.contrast, p=t.p
            )
        )
    if preset.hue:
        h = preset.hue
        turn, saturation = round(h.degrees / 2), round(255 * h.saturation / 2)
        steps.append(A.HueSaturationValue(turn, saturation, val_shift_limit=0, p=h.p))
    if preset.blur:
        sigma = tuple(size * share for share in preset.blur.sigma)
        steps.append(A.GaussianBlur(blur_limit=0, sigma_limit=sigma, p=preset.blur.p))
    if preset.noise:
        steps.append(A.GaussNoise(std_range=preset.noise.std, p=preset.noise.p))
    if preset.holes:
        h = preset.holes
        sides = {"hole_height_range": h.side, "hole_width_range": h.side}
        steps.append(A.CoarseDropout(num_holes_range=(1, h.most), **sides, p=h.p))
    return steps


@dataclass(frozen=True)
class Task:
    """A data set, split once."""

    name: str
    data: FoldData
    valid_rows: np.ndarray
    groups: np.ndarray | None
    size: int
    channels: int


def fashion(folder, rows, cache):
    data = DataSpec(
        source="fashion-mnist", root=str(folder / "fashion-mnist"), limit=rows + 4000
    )
    return task(
        "fashion",
        data,
        FoldSpec(scheme="single", share=4000 / (rows + 4000)),
        InputSpec(size=28, channels=1),
        rows,
        cache,
    )


def clothing(folder, rows, cache):
    data = DataSpec(
        source=str(folder / "clothing-128" / "manifest.csv"),
        group="sender_id",
        targets={"label": {"drop": ["Not sure", "Skip", "Other"]}},
    )
    return task("clothing", data, FoldSpec(count=2), InputSpec(size=32), rows, cache)


def task(name, data, folds, seen, rows, cache):
    samples = read_samples(data, folds)
    split = split_samples(samples, folds).table
    index = {label: i for i, label in enumerate(samples.classes["label"])}
    y = samples.table["label"].map(index).fillna(-1).to_numpy(np.int64)
    fold = split["fold"].to_numpy()
    train = np.flatnonzero((split["split"] == "train") & (fold != 0))
    valid = np.flatnonzero((split["split"] == "train") & (fold == 0))
    train = np.sort(np.random.default_rng(0).permutation(train)[:rows])
    pixels = prepare_pixels(samples.images, seen, cache)
    groups = (
        None
        if data.group is None
        else np.unique(split["group"], return_inverse=True)[1][valid]
    )
    # nothing is chosen by scores, so nothing is validated in between
    nothing = np.array([], np.int64)
    return Task(
        name,
        FoldData(pixels, y, train, nothing, len(index)),
        valid,
        groups,
        seen.size,
        seen.channels,
    )


@torch.inference_mode()
def probabilities(network, task):
    parts = [
        network(torch.from_numpy(task.data.pixels[rows]).permute(0, 3, 1, 2))
        .softmax(1)
        .numpy()
        for rows in np.array_split(task.valid_rows, max(1, len(task.valid_rows) // 256))
    ]
    return np.concatenate(parts)


def trained(task, preset, spec, seed, out):
    """The probabilities `[validation rows, classes]` of one training, from `out` when they are there."""
    made_of = [
        task.name,
        task.data.train_rows.tolist(),
        preset,
        augment_version(preset),
        spec.model_dump(mode="json"),
        seed,
    ]
    path = out / f"{hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:16]}.npy"
    if not path.is_file():
        began = time.process_time()
        augment = build_augment(preset, task.size, task.channels)
        setup = FoldSetup(spec, task.data, augment=augment, seed=seed)
        made = train_fold(setup, execution=Execution("cpu"))
        probs = probabilities(made.network, task)
        y = task.data.targets[task.valid_rows]
        told = ", ".join(f"{metric} {score(metric, probs, y):.4f}" for metric in METRICS)
        print(
            f"  {task.name} {spec.epochs} epochs, {preset}, seed {seed}: {told} "
            f"({time.process_time() - began:.0f} CPU s)",
            flush=True,
        )
        np.save(path, probs)
    return np.load(path)


def compare(task, presets, spec, seeds, out):
    y = task.data.targets[task.valid_rows]
    by_seed = [
        [trained(task, preset, spec, seed, out) for preset in presets]
        for seed in range(seeds)
    ]
    stacks = [np.stack(probs) for probs in zip(*by_seed, strict=True)]
    gains = {
        metric: compare_with_first(metric, stacks, y, task.groups) for metric in METRICS
    }
    for i, preset in enumerate(presets):
        cells = []
        for metric in METRICS:
            cells.append(f"{np.mean([score(metric, probs, y) for probs in stacks[i]]):.4f}")
            if i:
                gain = gains[metric][i - 1]
                cells.append(
                    f"{gain.value:+.4f} ({gain.joint_low:+.4f} to {gain.joint_high:+.4f}), "
                    f"{gain.verdict}"
                )
            else:
                cells.append("")
        print(
            f"| {task.name}, {len(task.data.train_rows)} images, {spec.epochs} epochs | {preset} | "
            f"{' | '.join(cells)} |",
            flush=True,
        )


def cost(size, repeats):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (256, size, size, 3), dtype=np.uint8)
    seeds = [sample_seed("cost", i) for i in range(len(images))]
    ways = {"a flip": build_augment(FLIP, size, 3)}
    for name in PRESETS[1:]:
        ways[name] = build_augment(name, size, 3)
        ways[f"{name}, by albumentations"] = seeded_albumentations(name, size)
    ways["randaugment"] = build_augment("randaugment", size, 3)
    found = {name: [] for name in ways}
    for augment in ways.values():
        augment(images[0], 0)  # imports and first calls are nobody's
    for _ in range(repeats):
        for name, augment in ways.items():
            began = time.process_time()
            for image, seed in zip(images, seeds, strict=True):
                augment(image, seed)
            found[name].append(1e6 * (time.process_time() - began) / len(images))
    for name, costs in found.items():
        print(
            f"{name:25} {np.median(costs):6.0f} us an image ({min(costs):.0f} to {max(costs):.0f})"
        )


def seeded_albumentations(name, size):
    import albumentations as A

    pipeline = A.Compose(as_albumentations(name, size))

    def augment(image, seed):
        pipeline.set_random_state(np.random.default_rng(seed), random.Random(seed))
        return pipeline(image=image)["image"]

    return augment


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--out", type=Path, default=Path("augmentation-results"))
    parser.add_argument(
        "--presets",
        nargs="+",
        default=PRESETS,
        help="the first one is what the others are compared with",
    )
    parser.add_argument("--data", nargs="+", default=["fashion", "clothing"])
    parser.add_argument("--epochs", type=int, nargs="+", default=[6, 24])
    parser.add_argument("--rows", type=int, default=1500, help="train images")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--backbone", default="test_resnet")
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--cost", action="store_true", help="only what an image costs")
    parser.add_argument("--size", type=int, default=64, help="pixels, for --cost")
    parser.add_argument("--repeats", type=int, default=5, help="for --cost")
    a = parser.parse_args()
    torch.set_num_threads(1)
    if a.cost:
        cost(a.size, a.repeats)
        return
    if a.folder is None:
        parser.error(
            "give the folder that holds fashion-mnist/ or clothing-128/, or --cost"
        )
    a.out.mkdir(parents=True, exist_ok=True)
    makers = {"fashion": fashion, "clothing": clothing}
    tasks = [makers[name](a.folder, a.rows, a.out) for name in a.data]
    for epochs in a.epochs:
        spec = MemberSpec(
            backbone=a.backbone,
            epochs=epochs,
            warmup_epochs=min(1, epochs - 1),
            lr=a.lr,
            batch_size=64,
        )
        for task in tasks:
            compare(task, a.presets, spec, a.seeds, a.out)


if __name__ == "__main__":
    main()
