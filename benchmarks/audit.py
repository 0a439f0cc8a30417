"""How long the first and the second audit of many JPEG files take: python benchmarks/audit.py OUT [--n 50000]."""

import argparse
import time
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from ensembler.audit.audit import audit_recipe
from ensembler.audit.duplicates import find_duplicates
from ensembler.audit.facts import look_at_images
from ensembler.data.images import FileImages
from ensembler.progress import Progress
from ensembler.recipe import Recipe

PER_PERSON = 10
RECIPE = """\
name: many
data: {source: train.csv, test: test.csv}
members: {one: {backbone: resnet18}}
"""


class Steps(Progress):
    """Prints every tenth of a counted step."""

    def step(self, what: str, done: int, total: int) -> None:
        """Print where the step is."""
        if done * 10 // total != (done - 50) * 10 // total:
            print(f"  {what}: {done}/{total}", flush=True)


def draw(folder: Path, n: int, side: int) -> None:
    """Write `n` noisy JPEGs, ten of each person, and some saved again in another size and quality."""
    rng = np.random.default_rng(0)
    rows = []
    (folder / "images").mkdir(parents=True)
    for i in range(n):
        name = f"images/{i:06d}.jpg"
        if i % PER_PERSON == 0:
            look = rng.integers(0, 256, (5, 5, 3)).astype(np.uint8)
        if i % 100 == 99:  # a copy of the image before it, smaller and compressed harder
            smaller = (side * 3 // 4, side * 3 // 4)
            image = cv2.resize(image, smaller, interpolation=cv2.INTER_AREA)  # noqa: F821
            cv2.imwrite(str(folder / name), image, [cv2.IMWRITE_JPEG_QUALITY, 70])
        else:
            detail = rng.integers(0, 256, (9, 9, 3)).astype(np.uint8)
            parts = [
                cv2.resize(p, (side, side), interpolation=cv2.INTER_CUBIC)
                for p in (look, detail)
            ]
            image = cv2.addWeighted(parts[0], 0.5, parts[1], 0.5, 0)
            cv2.imwrite(str(folder / name), image, [cv2.IMWRITE_JPEG_QUALITY, 90])
        rows.append(
            {"path": name, "person": i // PER_PERSON, "label": f"c{rng.integers(20)}"}
        )
    table = pd.DataFrame(rows)
    table[: n * 9 // 10].to_csv(folder / "train.csv", index=False)
    table[n * 9 // 10 :].to_csv(folder / "test.csv", index=False)
    (folder / "recipe.yaml").write_text(RECIPE)


def main() -> None:
    """Draw what is not there yet, and audit it with an empty cache and again."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--n", type=int, default=50_000)
    parser.add_argument("--side", type=int, default=224)
    given = parser.parse_args()
    folder = given.out / f"{given.n}-{given.side}"
    if not (folder / "recipe.yaml").is_file():
        draw(folder, given.n, given.side)
    spec = Recipe.load(folder / "recipe.yaml").spec
    artifacts = given.out / f"artifacts-{time.time_ns()}"
    for turn in ("first", "second"):
        began = time.perf_counter()
        audit = audit_recipe(spec, artifacts, progress=Steps() if turn == "first" else None)
        print(f"{turn} audit of {given.n} images: {time.perf_counter() - began:.1f} s")
        print("  " + "; ".join(f"{f.code} {len(f.files)} files" for f in audit.findings))
    files = FileImages(
        [
            folder / p
            for part in ("train", "test")
            for p in pd.read_csv(folder / f"{part}.csv")["path"]
        ]
    )
    began = time.perf_counter()
    facts = look_at_images(files, artifacts / ".cache")
    cached = time.perf_counter() - began
    began = time.perf_counter()
    find_duplicates(facts)
    print(
        f"of which facts from the cache {cached:.1f} s, comparing all pairs "
        f"{time.perf_counter() - began:.1f} s"
    )


if __name__ == "__main__":
    main()
