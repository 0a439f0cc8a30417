"""How fast commands answer: `ens --help`, and a blend of 47 members x 12,000 rows x 10 classes.

Whole processes: wall time and, for a machine that is not idle, processor time, also as multiples of
what importing numpy, pandas and typer takes. Bytecode is kept between the runs, as it is where the
package was installed.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ensembler.predictions.testing import write_fake_run

IMPORTS = "import numpy, pandas, typer"


def processor() -> float:
    """Processor seconds of all processes that were waited for."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def seconds(command: list[str], runs: int, folder: Path) -> tuple[list[float], list[float]]:
    wall, used = [], []
    kept = {"PYTHONPYCACHEPREFIX": str(folder / "bytecode"), "PYTHONDONTWRITEBYTECODE": ""}
    environment = os.environ | kept
    for _ in range(runs + 1):
        began, before = time.perf_counter(), processor()
        subprocess.run(
            command, cwd=folder, env=environment, check=True, capture_output=True
        )
        wall.append(time.perf_counter() - began)
        used.append(processor() - before)
    return wall[1:], used[1:]  # the first run warms the disk cache


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    ens = [sys.executable, "-m", "ensembler"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        strengths = {f"m{i:02d}": 0.5 + i / 30 for i in range(47)}
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
            IMPORTS: [sys.executable, "-c", "import numpy, pandas, typer"],
            "ens --help": [*ens, "--help"],
            "ens ls": [*ens, "ls"],
            "ens blend --weights": [*ens, "blend", "big", "--weights", "m00=1,m39=2"],
            "ens blend --method greedy": [*ens, "blend", "big", "--method", "greedy"],
            "ens blend --method auto": [*ens, "blend", "big", "--method", "auto"],
        }
        imports = 0.0
        for label, command in commands.items():
            wall, used = seconds(command, runs if "auto" not in label else 1, folder)
            texts = [
                f"{statistics.median(t):6.2f} s ({min(t):.2f} to {max(t):.2f})"
                for t in (wall, used)
            ]
            if label == IMPORTS:
                imports = statistics.median(used)
            times = (
                f"   {statistics.median(used) / imports:.1f} x imports" if imports else ""
            )
            print(f"{label:28s} wall {texts[0]}   processor {texts[1]}{times}", flush=True)


if __name__ == "__main__":
    main()
