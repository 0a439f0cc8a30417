"""The page of a generated run: seconds, memory and size, first from the predictions, then from what is kept of them.

python benchmarks/report.py OUT [--pool 100,50000,100]
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

from ensembler.predictions.blends import BlendRecord, write_blend
from ensembler.predictions.samples import write_samples
from ensembler.predictions.store import RunStore
from ensembler.predictions.testing import write_fake_member

FOLDS, N_TEST = 5, 10


def generate(folder: Path, members: int, rows: int, classes: int) -> None:
    """A run of so many members; each leans towards the label by its own strength."""
    rng = np.random.default_rng(0)
    names = [f"class {c:03d}" for c in range(classes)]
    y = rng.integers(0, classes, rows)
    noise = rng.normal(size=(2 * rows, classes)).astype(np.float16)
    table = pd.DataFrame(
        {
            "id": [f"images/{i:06d}.jpg" for i in range(rows + N_TEST)],
            "split": ["train"] * rows + ["test"] * N_TEST,
            "fold": [*(np.arange(rows) % FOLDS).tolist(), *[-1] * N_TEST],
            "label": [*(names[c] for c in y), *[None] * N_TEST],
            "group": [f"g{i // 5}" for i in range(rows + N_TEST)],
        }
    )
    # rows of one group lie in one fold
    table.loc[: rows - 1, "fold"] = np.arange(rows) // 5 % FOLDS
    folder.mkdir(parents=True)
    write_samples(folder / "samples.csv", table)
    common, total = noise[:rows].copy(), np.zeros((rows, classes), np.float32)
    test = np.zeros((FOLDS, 1, N_TEST, classes), np.float16)
    for m in range(members):
        own = np.roll(noise, 7919 * (m + 1), axis=0)[:rows]
        logits = (0.7 * common + own).astype(np.float16)
        logits[np.arange(rows), y] += np.float16(2 + 3 * rng.random())
        write_fake_member(folder, f"member{m:03d}", logits[None], test, names)
        total += logits
    probs = np.exp(total / members - (total / members).max(axis=1, keepdims=True))
    probs /= probs.sum(axis=1, keepdims=True)
    record = BlendRecord(
        name="all",
        classes=tuple(names),
        method="geometric",
        members=tuple(f"member{m:03d}" for m in range(members)),
        weights={f"member{m:03d}": 1 / members for m in range(members)},
        sha256={},
    )
    even = np.full((N_TEST, classes), 1 / classes)
    write_blend(folder / "blends" / "all", RunStore(folder).lock_path, record, probs, even)


def one(folder: Path) -> None:
    """Write the page in this process, and say what it took."""
    from ensembler.report.report import report_run

    wall, cpu = time.perf_counter(), time.process_time()
    written = report_run(RunStore(folder), folder.parent)
    figures = {
        "wall s": time.perf_counter() - wall,
        "CPU s": time.process_time() - cpu,
        "CPU s with imports": time.process_time(),
        "most memory MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "page MB": written.size / 1e6,
        "notes": list(written.notes),
    }
    print(json.dumps(figures))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--pool", default="100,50000,100", help="members, rows, classes")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    folder = given.out / "artifacts" / "generated"
    if given.one:
        one(folder)
        return
    os.environ.pop("ENS_CACHE", None)
    if not folder.exists():
        generate(folder, *map(int, given.pool.split(",")))
    for digest in (given.out / "artifacts" / ".cache").rglob("*.npz"):
        digest.unlink()
    for what in ("from the predictions", "from what is kept"):
        command = [sys.executable, __file__, str(given.out), "--one"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        print(what, done.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
