"""Predicting from a bundle: against the run it was packed from, its memory, and its start.

    python benchmarks/bundle.py             # 5 checkpoints x 4 views: bundle against `ens tta-predict --data`
    python benchmarks/bundle.py --memory    # peak memory of 1,000 and of many images
    python benchmarks/bundle.py --start     # from nothing to the first prediction

CPU seconds of one thread, the sides taking turns: each decodes the images, makes its networks ready, predicts,
blends and writes its table. The networks are trained for one epoch, on drawn shapes: how well they do is not asked.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ensembler import Recipe
from ensembler.bundle.images import AskedImages, find_asked
from ensembler.bundle.networks import Networks
from ensembler.bundle.open import open_bundle
from ensembler.bundle.pack import pack_run
from ensembler.bundle.predict import Form, predict_images
from ensembler.demo.shapes import write_shapes
from ensembler.pipeline.predict_new import predict_new
from ensembler.pipeline.run import run_recipe
from ensembler.predictions.store import RunStore
from ensembler.workspace.workspace import workspace_of_run

RECIPE = """
name: bench
data: {{source: shapes/train.csv, test: shapes/test.csv}}
folds: {{count: {folds}}}
input: {{size: {size}}}
views: [identity, hflip, vflip, rot180]
defaults: {{epochs: 1, batch_size: 64}}
members:
  net: {{backbone: {backbone}}}
blend: {{method: soft}}
"""


def a_run(folder: Path, a) -> RunStore:
    write_shapes(folder / "shapes", n=100, seed=0)
    text = RECIPE.format(folds=a.checkpoints, size=a.size, backbone=a.backbone)
    (folder / "recipe.yaml").write_text(text)
    run_recipe(Recipe.load(folder / "recipe.yaml"), folder / "artifacts")
    return RunStore(folder / "artifacts" / "bench")


def draw(folder: Path, n: int, side: int) -> Path:
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(n):
        small = rng.integers(0, 256, (6, 8, 3)).astype(np.uint8)
        size = (side, 3 * side // 4)
        Image.fromarray(small).resize(size, Image.BICUBIC).save(
            folder / f"{i}.jpg", quality=85
        )
    return folder


def cpu(work) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def compare(a, folder: Path) -> None:
    store = a_run(folder, a)
    images = draw(folder / "images", a.images, a.side)
    bundle = pack_run(store, folder / "bench.ens").bundle
    workspace = workspace_of_run(store)

    def by_run() -> None:
        shutil.rmtree(folder / "artifacts" / ".cache", ignore_errors=True)
        predict_new(workspace, images, folder / "run.csv")

    def by_bundle() -> None:
        networks = Networks(open_bundle(bundle), "cpu")
        predict_images(networks, find_asked([str(images)]), folder / "b.csv", Form())

    times = {"run": [], "bundle": []}
    for _ in range(a.repeats):
        times["run"].append(cpu(by_run))
        times["bundle"].append(cpu(by_bundle))
        print({name: round(found[-1], 2) for name, found in times.items()}, flush=True)
    ratios = [b / r for b, r in zip(times["bundle"], times["run"], strict=True)]
    print(
        f"bundle / tta-predict: {statistics.median(ratios):.3f} "
        f"({min(ratios):.3f} to {max(ratios):.3f}), {bundle.stat().st_size / 1e6:.0f} MB"
    )


def peak() -> int:
    """The most memory this process has held, in MB (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) // 1024


def one_memory(n: int, folder: Path) -> None:
    networks = Networks(open_bundle(folder / "bench.ens"), "cpu")
    few = sorted((folder / "images").iterdir())
    ids = tuple(str(i) for i in range(n))
    asked = AskedImages(ids, tuple(few[i % len(few)] for i in range(n)))
    before, began = peak(), time.process_time()
    predict_images(networks, asked, folder / f"{n}.csv", Form())
    print(
        json.dumps(
            {
                "images": n,
                "before": before,
                "peak": peak(),
                "cpu": round(time.process_time() - began),
            }
        )
    )


def memory(a, folder: Path) -> None:
    a.backbone, a.size = "test_resnet", 16
    store = a_run(folder, a)
    draw(folder / "images", 64, 32)
    pack_run(store, folder / "bench.ens")
    for n in (1_000, a.many):
        command = [sys.executable, __file__, "--one", str(n), str(folder)]
        print(
            subprocess.run(
                command, capture_output=True, text=True, check=True
            ).stdout.strip(),
            flush=True,
        )


STARTED = """
import time
began = time.process_time()
import torch, timm
libraries = time.process_time() - began
from ensembler import Predictor
predictor = Predictor.load({bundle!r}, device="cpu", check={check})
loaded = time.process_time() - began - libraries
predictor({image!r})
first = time.process_time() - began - libraries - loaded
print(f"libraries {{libraries:.2f}}, load {{loaded:.2f}}, first prediction {{first:.2f}} CPU seconds")
"""


def start(a, folder: Path) -> None:
    store = a_run(folder, a)
    image = next(draw(folder / "images", 1, a.side).iterdir())
    bundle = pack_run(store, folder / "bench.ens").bundle
    for check in (True, False):
        code = STARTED.format(bundle=str(bundle), image=str(image), check=check)
        found = [
            subprocess.run(
                [sys.executable, "-c", code], capture_output=True, text=True, check=True
            ).stdout.strip()
            for _ in range(a.repeats)
        ]
        print(f"check={check}:", *found, sep="\n  ", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument(
        "--side", type=int, default=128, help="longer side of the JPEG files"
    )
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--many", type=int, default=50_000)
    parser.add_argument("--checkpoints", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--start", action="store_true")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    a = parser.parse_args()
    torch.set_num_threads(1)
    if a.one:
        one_memory(int(a.one[0]), Path(a.one[1]))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if a.memory:
            memory(a, folder)
        elif a.start:
            start(a, folder)
        else:
            compare(a, folder)


if __name__ == "__main__":
    main()
