"""Five checkpoints x four views from JPEG files: `ens` in one pass against ttach's wrapper looped over the checkpoints.

The peer is the loop of ttach's README: a Dataset that opens each file with Pillow, albumentations,
a DataLoader, float32, `ClassificationTTAWrapper(model, flip_transform())`, once for each
checkpoint. Both sides decode anew each time, take turns, and end with logits of every image; ratios
are of neighbouring runs. `forward` is the engine alone on batches in memory. `--cpu` counts the CPU
seconds of one thread, for a machine that has other work too; `--memory` measures instead the peak
memory of a pass over many images, each in a process of its own.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ensembler.data.images import FileImages
from ensembler.data.pixels import prepare_pixels
from ensembler.data.spec import InputSpec
from ensembler.inference.engines.choose import CHECKED, ready
from ensembler.inference.engines.eager import plain
from ensembler.inference.one_pass import PredictionRequest, run_pass
from ensembler.inference.predictor import BATCH, as_images
from ensembler.inference.views import expand_views
from ensembler.logits import softmax
from ensembler.networks.build import build_network
from ensembler.networks.checkpoint import load_checkpoint, save_checkpoint
from ensembler.networks.spec import NetworkSpec
from ensembler.progress import RecordedProgress

clock = time.perf_counter
VIEWS = ["identity", "hflip", "vflip", "rot180"]  # ttach's flip_transform
CLASSES = 10


def draw(folder: Path, n: int, side: int) -> list[Path]:
    rng, paths = np.random.default_rng(0), []
    for i in range(n):
        small = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        image = np.asarray(Image.fromarray(small).resize((side, side), Image.BICUBIC))
        noisy = np.clip(image + rng.normal(0, 12, image.shape), 0, 255).astype(np.uint8)
        paths.append(folder / f"{i}.jpg")
        Image.fromarray(noisy).save(paths[-1], quality=85)
    return paths


def scaled(folder: Path, source: Path, n: int, side: int) -> list[Path]:
    found, paths = sorted(source.rglob("*.jpg")), []
    for i in range(n):
        image = Image.open(found[i % len(found)]).convert("RGB")
        factor = side / max(image.size)
        paths.append(folder / f"{i}.jpg")
        image.resize(
            (round(image.width * factor), round(image.height * factor)), Image.BICUBIC
        ).save(paths[-1], quality=85)
    return paths


def checkpoints(folder: Path, backbone: str, size: int, n: int) -> list[Path]:
    """Networks with the batch statistics of a training on noise: neither constant nor saturated."""
    paths, spec = [], NetworkSpec(backbone=backbone)
    for k in range(n):
        torch.manual_seed(k)
        network = build_network(spec, classes=CLASSES, size=size, channels=3).train()
        with torch.no_grad():
            for _ in range(20):
                network(torch.randint(0, 256, (32, 3, size, size), dtype=torch.uint8))
        paths.append(folder / f"fold{k}.safetensors")
        save_checkpoint(
            paths[-1],
            network.eval(),
            spec,
            {"classes": CLASSES, "size": size, "channels": 3},
            {},
        )
    return paths


class Files(torch.utils.data.Dataset):
    def __init__(self, paths, size):
        import albumentations as A
        import albumentations.pytorch

        self.paths = paths
        self.transform = A.Compose(
            [A.Resize(size, size), A.Normalize(), A.pytorch.ToTensorV2()]
        )

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, i):
        return self.transform(image=np.asarray(Image.open(self.paths[i]).convert("RGB")))[
            "image"
        ]


def peer(files, weights, size, workers):
    import ttach

    logits = []
    for path in weights:
        model = ttach.ClassificationTTAWrapper(
            load_checkpoint(path, "cpu").network.to(memory_format=torch.contiguous_format),
            ttach.aliases.flip_transform(),
        )
        model.eval()
        loader = torch.utils.data.DataLoader(
            Files(files, size), batch_size=BATCH, num_workers=workers
        )
        with torch.no_grad():
            logits.append(torch.cat([model(batch) for batch in loader]).numpy())
    return logits


def ours(files, weights, size, engine, folder, progress):
    began = clock()
    pixels = prepare_pixels(FileImages(files), InputSpec(size=size), folder)
    decoded = clock()
    rows, preparing = np.arange(len(files)), []
    views = expand_views(VIEWS)
    asked = [
        PredictionRequest(p.stem, p, CLASSES, views, (rows,), folder / f"{p.stem}.npy")
        for p in weights
    ]

    def load(missing):
        start = clock()
        made = [predictor(one.path, pixels, engine, progress) for one in missing]
        preparing.append(clock() - start)
        return made

    logits = run_pass(asked, pixels, load, device="cpu")
    return [found.array for found in logits], {
        "decoding": decoded - began,
        "preparing": preparing[0],
    }


def predictor(path, pixels, engine, progress):
    return ready(
        engine,
        lambda: load_checkpoint(path, "cpu"),
        pixels[np.arange(CHECKED)],
        amp="auto",
        device="cpu",
        name=path.stem,
        progress=progress,
    )


def forward(pixels, weights, engine, progress):
    """Seconds of the engine alone, on batches that are in memory."""
    predictors = [predictor(path, pixels, engine, progress) for path in weights]
    batches = [
        as_images(np.array(pixels[i : i + BATCH]), "cpu")
        for i in range(0, len(pixels), BATCH)
    ]
    began = clock()
    for batch in batches:
        for _ in VIEWS:
            for predict in predictors:
                predict(batch)
    return clock() - began


def compare(a, folder: Path) -> None:
    files = (
        scaled(folder, a.source, a.images, a.side)
        if a.source
        else draw(folder, a.images, a.side)
    )
    weights = checkpoints(folder, a.backbone, a.size, a.checkpoints)
    progress = RecordedProgress()
    times: dict[str, list[float]] = {
        "ttach": [],
        **{e: [] for e in a.engines},
        **{f"{e}, forward": [] for e in a.engines},
    }
    parts = {e: [] for e in a.engines}
    for repeat in range(a.repeats):
        began = clock()
        peer(files, weights, a.size, a.workers)
        times["ttach"].append(clock() - began)
        for engine in a.engines:
            cache = folder / f"{engine}{repeat}"
            began = clock()
            found, of = ours(files, weights, a.size, engine, cache, progress)
            times[engine].append(clock() - began)
            parts[engine].append(of)
            pixels = np.load(next(cache.glob("pixels-*.npy")), mmap_mode="r")
            times[f"{engine}, forward"].append(forward(pixels, weights, engine, progress))
        print({name: round(seconds[-1], 2) for name, seconds in times.items()}, flush=True)
        for engine in a.engines:
            print(
                " ",
                engine,
                {k: round(v, 2) for k, v in parts[engine][-1].items()},
                flush=True,
            )
    sample = as_images(np.array(pixels[:BATCH]), "cpu")
    reference = plain(load_checkpoint(weights[0], "cpu"), "cpu")(sample)
    for engine in a.engines:
        of_engine = predictor(weights[0], pixels, engine, progress)(sample)
        gap = np.abs(softmax(of_engine) - softmax(reference)).max()
        seconds, alone = times[engine], times[f"{engine}, forward"]
        ratios = [p / s for p, s in zip(times["ttach"], seconds, strict=True)]
        ready_made = [
            p / (s - of["preparing"])
            for p, s, of in zip(times["ttach"], seconds, parts[engine], strict=True)
        ]
        share = [
            f / (s - of["preparing"])
            for f, s, of in zip(alone, seconds, parts[engine], strict=True)
        ]
        print(
            f"{engine}: {middle(ratios)} x ttach, {middle(ready_made)} x without making "
            f"networks ready; forward alone is {middle(share)} of the pass; largest "
            f"difference of a probability from float32 {gap:.1e}"
        )
    print(*progress.notes, sep="\n")


def middle(values):
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


class Tiny(torch.nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.linear = torch.nn.Linear(3 * 16, classes)

    def forward(self, pixels):
        return self.linear(
            torch.nn.functional.adaptive_avg_pool2d(pixels.float(), 4).flatten(1)
        )


def peak():
    """The most memory this process has held, in MB (Linux).

    Getrusage would count the parent's too.
    """
    status = Path("/proc/self/status").read_text()
    return (
        int(
            next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[
                1
            ]
        )
        // 1024
    )


def one_memory(n, classes, folder):
    pixels = np.load(folder / "pixels.npy", mmap_mode="r")
    views, rows = expand_views(VIEWS), np.arange(n)
    asked = [
        PredictionRequest(
            f"fold{k}",
            folder,
            classes,
            views,
            (rows,),
            folder / f"{n}-{classes}" / f"fold{k}.npy",
        )
        for k in range(5)
    ]
    before = peak()
    run_pass(
        asked,
        pixels,
        lambda missing: [plain(Tiny(classes), "cpu") for _ in missing],
        device="cpu",
    )
    print(json.dumps({"before": before, "peak": peak()}))


def memory(a, folder: Path) -> None:
    shape = (50_000, a.size, a.size, 3)
    array = np.lib.format.open_memmap(folder / "pixels.npy", "w+", np.uint8, shape)
    for start in range(0, len(array), 1000):
        array[start : start + 1000] = np.random.default_rng(start).integers(
            0, 256, (1000, *shape[1:]), dtype=np.uint8
        )
    del array
    for classes in (10, 100):
        for n in (1_000, 50_000):
            command = [sys.executable, __file__, "--one", str(n), str(classes), str(folder)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            size = 5 * len(VIEWS) * n * classes * 4 / 1e6
            print(
                f"{n} images, {classes} classes ({size:.0f} MB of logits): {done.stdout.strip()} "
                "MB",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument(
        "--side", type=int, default=128, help="longer side of the JPEG files"
    )
    parser.add_argument(
        "--source", type=Path, help="a folder of JPEG files to scale; drawn when not given"
    )
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--checkpoints", type=int, default=5)
    parser.add_argument("--engines", nargs="+", default=["default", "openvino"])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--workers", type=int, default=0, help="of the peer's DataLoader")
    parser.add_argument(
        "--cpu",
        action="store_true",
        help="CPU seconds of one thread instead of time passed",
    )
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.one:
        one_memory(int(a.one[0]), int(a.one[1]), Path(a.one[2]))
        return
    if a.cpu:
        global clock
        clock = time.process_time
        torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        (memory if a.memory else compare)(a, Path(name))


if __name__ == "__main__":
    main()
