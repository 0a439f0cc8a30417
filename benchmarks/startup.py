"""How fast commands answer: whole processes, medians; `ens --help`, and a blend of 40 members x 12,000 rows x 10 classes."""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ensembler.predictions.testing import write_fake_run


def seconds(command: list[str], runs: int, folder: Path) -> list[float]:
    times = []
    for _ in range(runs + 1):
        began = time.perf_counter()
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        times.append(time.perf_counter() - began)
    return times[1:]  # the first run warms the disk cache


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    ens = [sys.executable, "-m", "ensembler"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        strengths = {f"m{i:02d}": 0.5 + i / 30 for i in range(40)}
        classes = [f"c{i}" for i in range(10)]
        write_fake_run(
            folder / "artifacts" / "big",
            strengths,
            n_train=12_000,
            n_test=2_000,
            classes=classes,
            folds=5,
            views=["identity"],
        )
        commands = {
            "python -c pass": [sys.executable, "-c", "pass"],
            "ens --help": [*ens, "--help"],
            "ens ls": [*ens, "ls"],
            "ens blend --weights": [*ens, "blend", "big", "--weights", "m00=1,m39=2"],
            "ens blend --method greedy": [*ens, "blend", "big", "--method", "greedy"],
            "ens blend --method auto": [*ens, "blend", "big", "--method", "auto"],
        }
        for label, command in commands.items():
            times = seconds(command, runs if "auto" not in label else 1, folder)
            print(f"{label:28s} median {statistics.median(times):6.2f} s   ({min(times):.2f} to {max(times):.2f})")


if __name__ == "__main__":
    main()
