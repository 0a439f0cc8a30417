"""Several labels at once: one network for all labels, members blended, a threshold for each label.

Draws mosaics of Fashion-MNIST (up to four garments of ten kinds, rare kinds ten times rarer than
frequent ones) into a folder, runs a recipe of three members on them, and prints the scores of
held-out rows, on which nothing was fitted.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from ensembler import Recipe, Run
from ensembler.data.built_in import read_fashion_mnist
from ensembler.metrics import score
from ensembler.pipeline.run import run_recipe
from ensembler.progress import Progress

RECIPE = """
name: mosaics
data:
  source: {folder}/train.csv
  test: {folder}/test.csv
  id: path
  targets: {{garments: {{multi_label: " ", no_label: nothing}}}}
folds: {{count: 3}}
input: {{size: 56, channels: 1}}
augment: {{torchvision: [RandomHorizontalFlip]}}
views: [identity, hflip]
defaults: {{backbone: test_efficientnet, lr: 3e-3, epochs: {epochs}, batch_size: 64}}
members:
  bce: {{}}
  weighted: {{class_weights: balanced}}
  asymmetric: {{loss: asymmetric}}
blend: {{metric: log_loss}}
submission: {{columns: [path, garments]}}
"""
SHOWN = ("accuracy", "f1_macro", "f1_micro", "f1_samples", "average_precision", "log_loss")


class Lines(Progress):
    def fold_done(self, task, text):
        print(f"  {task.training} fold {task.fold}: {text}", flush=True)


def draw(folder: Path, fashion: str | None, counts: dict[str, int]) -> None:
    parts, classes = read_fashion_mnist(fashion)
    names = [name.lower().replace("/", "-").replace(" ", "-") for name in classes]
    frequency = np.geomspace(10, 1, len(names))
    rng = np.random.default_rng(0)
    for part, (split, count) in zip(parts, counts.items(), strict=True):
        labels = np.asarray(part.labels)
        rows_of = [np.flatnonzero(labels == c) for c in range(len(names))]
        (folder / split).mkdir(parents=True, exist_ok=True)
        rows = []
        for i in range(count):
            canvas, found = np.zeros((56, 56), np.uint8), set()
            for place in rng.permutation(4)[: rng.choice(5, p=[0.05, 0.3, 0.35, 0.2, 0.1])]:
                c = rng.choice(len(names), p=frequency / frequency.sum())
                top, left = 28 * (place // 2), 28 * (place % 2)
                garment = np.squeeze(part.images.read(int(rng.choice(rows_of[c]))))
                canvas[top : top + 28, left : left + 28] = garment
                found.add(names[c])
            Image.fromarray(canvas).save(folder / split / f"{i:05d}.png")
            rows.append(
                {
                    "path": f"{split}/{i:05d}.png",
                    "garments": " ".join(sorted(found)) or "nothing",
                }
            )
        pd.DataFrame(rows).to_csv(folder / f"{split}.csv", index=False)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "folder", type=Path, help="where images and runs are kept; a second call goes on"
    )
    parser.add_argument(
        "--fashion", help="the folder of Fashion-MNIST (default: where recipes look for it)"
    )
    parser.add_argument("--images", type=int, default=6000)
    parser.add_argument("--test", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=10)
    a = parser.parse_args()
    folder = a.folder.resolve()
    if not (folder / "test.csv").is_file():
        draw(folder, a.fashion, {"train": a.images, "test": a.test})
    (folder / "recipe.yaml").write_text(RECIPE.format(folder=folder, epochs=a.epochs))
    run_recipe(Recipe.load(folder / "recipe.yaml"), folder / "artifacts", progress=Lines())
    run = Run.open("mosaics", folder / "artifacts")
    for metric in ("f1_macro", "f1_samples"):
        run.blend("auto", metric=metric, calibrate="biases", name=f"{metric}-thresholds")
    y = run.labels("test")
    rows = {
        name: member.test(run.classes()).mean(axis=0)
        for name, member in run.members.items()
    }
    rows |= {f"blend {name}": np.asarray(blend.test) for name, blend in run.blends.items()}
    print(f"{'':24}" + "".join(f"{name:>19}" for name in SHOWN))
    for name, probs in rows.items():
        print(
            f"{name:24}" + "".join(f"{score(metric, probs, y):19.4f}" for metric in SHOWN)
        )
    print("\nblends out of fold, cross-fitted")
    for name, blend in run.blends.items():
        scores = blend.record.scores["cross_fitted"]
        print(f"{name:24}" + "".join(f"{scores[metric]:19.4f}" for metric in SHOWN))


if __name__ == "__main__":
    main()
