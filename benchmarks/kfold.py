"""One fold of `ens` against the loop a good engineer writes by hand: same backbone, files, augmentation and epochs.

The plain loop: a Dataset that opens each JPEG with Pillow, albumentations, a DataLoader, float32, AdamW, cosine. Both sides train
and validate; they take turns, and ratios of images per second are of neighbouring runs. Images are drawn at --side pixels.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import albumentations as A
import albumentations.pytorch
import numpy as np
import timm
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from ensembler.data.augment import build_augment
from ensembler.data.images import FileImages
from ensembler.data.pixels import prepare_pixels
from ensembler.data.spec import InputSpec
from ensembler.training.fold import FoldData, train_fold
from ensembler.training.spec import MemberSpec

AUGMENT = [{"HorizontalFlip": {"p": 0.5}}]


def draw(folder: Path, n: int, side: int) -> tuple[list[Path], np.ndarray]:
    rng = np.random.default_rng(0)
    paths, y = [], rng.integers(0, 10, n)
    for i in range(n):
        small = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        small[:, : 1 + y[i] % 8] //= 3
        image = Image.fromarray(small).resize((side, side), Image.BICUBIC)
        noisy = np.clip(np.asarray(image) + rng.normal(0, 12, (side, side, 3)), 0, 255).astype(np.uint8)
        paths.append(folder / f"{i}.jpg")
        Image.fromarray(noisy).save(paths[-1], quality=85)
    return paths, y


class Files(Dataset):
    def __init__(self, paths, y, size, train):
        flip = [A.HorizontalFlip(p=0.5)] if train else []
        self.paths, self.y = paths, y
        self.transform = A.Compose([A.Resize(size, size), *flip, A.Normalize(), A.pytorch.ToTensorV2()])

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, i):
        image = np.asarray(Image.open(self.paths[i]).convert("RGB"))
        return self.transform(image=image)["image"], self.y[i]


def plain(paths, y, split, backbone, size, epochs, batch):
    torch.manual_seed(0)
    train = DataLoader(Files(paths[:split], y[:split], size, True), batch, shuffle=True)
    valid = DataLoader(Files(paths[split:], y[split:], size, False), batch)
    model = timm.create_model(backbone, num_classes=10)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * len(train))
    for _ in range(epochs):
        model.train()
        for x, t in train:
            loss = torch.nn.functional.cross_entropy(model(x), t)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        model.eval()
        with torch.inference_mode():
            losses = [torch.nn.functional.cross_entropy(model(x), t, reduction="sum") for x, t in valid]
    return float(sum(losses)) / (len(paths) - split)


def ours(paths, y, split, backbone, size, epochs, batch, cache):
    pixels = prepare_pixels(FileImages(paths), InputSpec(size=size), cache)
    rows = np.arange(len(paths))
    data = FoldData(pixels, y.astype(np.int64), rows[:split], rows[split:], 10)
    spec = MemberSpec(backbone=backbone, epochs=epochs, batch_size=batch)
    return train_fold(spec, data, augment=build_augment(AUGMENT, size, 3)).history[-1].valid_loss


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    a = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        paths, y = draw(Path(name), a.images, a.side)
        split = int(0.8 * a.images)
        job = (paths, y, split, a.backbone, a.size, a.epochs, 64)
        ratios = []
        for i in range(a.repeats):
            began = time.perf_counter()
            loss_plain = plain(*job)
            middle = time.perf_counter()
            # A cache of its own each time: decoding is part of what is timed.
            loss_ours = ours(*job, Path(name) / f"cache{i}")
            end = time.perf_counter()
            ratios.append((middle - began) / (end - middle))
            rate = split * a.epochs / (end - middle)
            print(f"plain {middle - began:.1f} s (loss {loss_plain:.3f}), ens {end - middle:.1f} s (loss {loss_ours:.3f}, "
                  f"{rate:.0f} images/s): {ratios[-1]:.2f} x", flush=True)  # fmt: skip
    print(f"median {statistics.median(ratios):.2f} x ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
