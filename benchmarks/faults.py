"""Kill `ens run` at random instants and fill its disk.

The same command must then end as if nothing had been. python benchmarks/faults.py FOLDER [--rounds
40] [--minutes 10] [--seed 0]

Each round makes a run of its own: one to three starts are ended by SIGKILL, SIGTERM or Ctrl-C, or
by a disk (a tmpfs, where this user may mount one) that is too small; then the command is given once
more. A round is good when that ends with 0, the submission is the one its record names, all logits,
blends and rows are the bits of an undisturbed run, nothing is left over and no traceback was
printed. Finished rounds are kept in FOLDER/rounds.jsonl: the same command goes on after them.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

RECIPE = """
name: faults
data: {source: shapes/train.csv, test: shapes/test.csv}
folds: {count: 2}
input: {size: 16}
views: [identity, hflip]
defaults: {backbone: test_resnet, epochs: 3, batch_size: 16, augment: none}
members: {one: {}, two: {seed: 1, also: [ema]}}
"""
FAULTS = ("SIGKILL", "SIGTERM", "SIGINT", "full disk")


def start(folder: Path, artifacts: Path) -> subprocess.Popen[str]:
    """Start the command in a process of its own."""
    command = [
        sys.executable,
        "-m",
        "ensembler",
        "run",
        "recipe.yaml",
        "--quiet",
        "--artifacts",
        str(artifacts),
    ]
    environment = {**os.environ, "ENS_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=folder, env=environment, text=True, **pipes)


def digests(run: Path) -> dict[str, str]:
    """What has to be the same bits in every run."""
    files = [
        *run.glob("members/*/*.npy"),
        *run.glob("blends/*/*.npy"),
        run / "samples.csv",
        run / "submission.csv",
    ]
    return {
        str(p.relative_to(run)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in files
        if p.is_file()
    }


def problems(run: Path, reference: dict[str, str]) -> list[str]:
    """What is wrong with a run that should be whole."""
    found = [] if digests(run) == reference else ["other bits than an undisturbed run"]
    versions = json.loads((run / "submission.json").read_text())["versions"]
    if versions[-1]["sha256"] != digests(run).get("submission.csv"):
        found.append("the submission is not the one its record names")
    left = [
        p.name
        for p in run.rglob("*")
        if p.name.endswith((".aside", ".lock", ".state", ".next"))
    ]
    return [*found, *(f"left over: {name}" for name in left)]


@contextlib.contextmanager
def small_disk(folder: Path, size: int) -> Iterator[None]:
    """Mount a tmpfs of `size` bytes at `folder`; what it holds is copied out at the end."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], check=True
    )
    try:
        yield
        shutil.copytree(folder, kept := folder.with_suffix(".kept"), symlinks=True)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
    folder.rmdir()
    kept.rename(folder)


def may_mount(folder: Path) -> bool:
    """Whether this user may mount a disk."""
    try:
        with small_disk(folder / "try", 4096):
            pass
    except (OSError, subprocess.CalledProcessError):
        return False
    shutil.rmtree(folder / "try")
    return True


def disturb(
    fault: str, folder: Path, artifacts: Path, rng: random.Random, seconds: float, need: int
) -> str:
    """Start the command and end it by a fault; return what it printed on standard error."""
    if fault == "full disk":
        artifacts_before = artifacts.with_suffix(".before")
        if artifacts.exists():
            artifacts.rename(artifacts_before)
        with small_disk(artifacts, rng.randrange(need // 20, need)):
            if artifacts_before.exists():
                subprocess.run(
                    ["cp", "-a", f"{artifacts_before}/.", str(artifacts)],
                    check=False,
                    capture_output=True,
                )
            _, errors = start(folder, artifacts).communicate(timeout=600)
        shutil.rmtree(artifacts_before, ignore_errors=True)
        return errors
    process = start(folder, artifacts)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(rng.uniform(0.0, seconds))
    process.send_signal(getattr(signal, fault))
    _, errors = process.communicate(timeout=600)
    return errors


def one_round(
    n: int, folder: Path, seed: int, seconds: float, need: int, faults: tuple[str, ...]
) -> dict[str, object]:
    """Disturb a new run some times, give the command once more, and look at the outcome."""
    rng = random.Random(f"{seed}-{n}")
    artifacts = folder / f"round{n}"
    shutil.rmtree(artifacts, ignore_errors=True)
    given = [faults[n % len(faults)], *rng.choices(faults[:3], k=rng.randrange(3))]
    wrong = []
    for fault in given:
        if "Traceback" in (errors := disturb(fault, folder, artifacts, rng, seconds, need)):
            wrong.append(f"traceback after {fault}: {errors.splitlines()[-1]}")
    last = start(folder, artifacts)
    _, errors = last.communicate(timeout=600)
    if last.returncode != 0:
        wrong.append(f"exit {last.returncode}: {errors.strip()}")
    else:
        wrong += problems(
            artifacts / "faults", json.loads((folder / "reference.json").read_text())
        )
    if not wrong:
        shutil.rmtree(artifacts)
    return {"round": n, "faults": given, "wrong": wrong}


def prepare(folder: Path) -> tuple[float, int]:
    """Make the data and the undisturbed run once.

    Return how long it takes and how many bytes it needs.
    """
    facts = folder / "facts.json"
    if not facts.is_file():
        from ensembler.demo.shapes import write_shapes

        write_shapes(folder / "shapes", n=40, seed=1)
        (folder / "recipe.yaml").write_text(RECIPE)
        began = time.monotonic()
        process = start(folder, folder / "whole")
        _, errors = process.communicate()
        if process.returncode != 0:
            raise SystemExit(errors)
        seconds = time.monotonic() - began
        need = sum(p.stat().st_size for p in (folder / "whole").rglob("*") if p.is_file())
        reference = digests(folder / "whole" / "faults")
        if wrong := problems(folder / "whole" / "faults", reference):
            raise SystemExit(f"the undisturbed run is not whole: {wrong}")
        (folder / "reference.json").write_text(json.dumps(reference))
        facts.write_text(json.dumps({"seconds": seconds, "bytes": need}))
    found = json.loads(facts.read_text())
    return float(found["seconds"]), int(found["bytes"])


def main() -> None:
    """Do the rounds that are missing, and say what came of all of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    folder = given.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    seconds, need = prepare(folder)
    faults = FAULTS if may_mount(folder) else FAULTS[:3]
    log = folder / "rounds.jsonl"
    done = (
        [json.loads(line) for line in log.read_text().splitlines()] if log.is_file() else []
    )
    end = time.monotonic() + given.minutes * 60
    while len(done) < given.rounds and time.monotonic() < end:
        done.append(one_round(len(done), folder, given.seed, seconds, need, faults))
        with log.open("a") as file:
            file.write(json.dumps(done[-1]) + "\n")
        print(json.dumps(done[-1]), flush=True)
    counts = Counter(fault for outcome in done for fault in outcome["faults"])
    bad = [outcome for outcome in done if outcome["wrong"]]
    print(f"{len(done) - len(bad)} of {len(done)} rounds are good; faults: {dict(counts)}")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
