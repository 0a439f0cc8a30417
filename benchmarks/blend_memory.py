"""Private memory that a blend needs beyond its pool, which is mapped from a file: one process for each figure.

python benchmarks/blend_memory.py [--pool 200,50000,10]
"""

import argparse
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from blending import generated

from ensembler.blending import Pool, create_blend, make_blend
from ensembler.blending.spec import BlendSpec

MIB = 2**20


def private() -> float:
    """MiB that belong to this process alone, mapped files not counted."""
    return (
        int(re.search(r"RssAnon:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024
    )


def one(what: str, method: str, folder: Path) -> None:
    stack, y = np.load(folder / "stack.npy", mmap_mode="r"), np.load(folder / "y.npy")
    names, classes = (
        tuple(f"m{i}" for i in range(len(stack))),
        tuple(map(str, range(stack.shape[2]))),
    )
    if what == "job":  # everything once before, so that imports are not counted
        make_blend(
            Pool(names, np.asarray(stack[:, :200]), y[:200], classes, np.arange(200) % 5),
            BlendSpec(),
        )
    before, peak, done = private(), 0.0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.is_set():
            peak = max(peak, private())
            time.sleep(0.002)

    watcher = threading.Thread(target=watch)
    watcher.start()
    if what == "fit":
        create_blend(method).fit(stack, y)
    else:
        make_blend(
            Pool(names, stack, y, classes, np.arange(len(y)) % 5), BlendSpec(method=method)
        )
    done.set()
    watcher.join()
    column = stack.shape[0] * stack.shape[1] * 4 / MIB
    print(
        f"{what:4s} {method:10s} {peak - before:6.0f} MiB beyond the pool of "
        f"{stack.nbytes / MIB:.0f} MiB,",
        end=" ",
    )
    print(f"{(peak - before) / column:.1f} columns of {column:.0f} MiB")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pool", default="200,50000,10", help="members,rows,classes")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.one:
        one(a.one[0], a.one[1], Path(a.one[2]))
        return
    with tempfile.TemporaryDirectory() as folder:
        stack, y = generated(*map(int, a.pool.split(",")))
        np.save(f"{folder}/stack.npy", stack)
        np.save(f"{folder}/y.npy", y)
        del stack
        for what in ("fit", "job"):
            for method in ("greedy", "simplex", "loglinear"):
                subprocess.run(
                    [sys.executable, __file__, "--one", what, method, folder], check=True
                )


if __name__ == "__main__":
    main()
