"""A large pool through `ens import`, `blend`, `evaluate` and `submit`: seconds of the processor, and memory.

python benchmarks/large_pool.py [--pool 20,1000000,10] [--test 1000000]

Each command is a process of its own. Its growth is the most memory that belonged to it alone (files
that are mapped not counted) beyond what the same command takes of a pool of 500 rows, in MiB and as
columns: one float32 number for each row of each member, which is 76 MiB of a pool of 20 members and
1 M rows. ENS_STACK_MEMORY=1000000 is as if the pool did not fit into memory.
"""

import argparse
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

MIB = 2**20


def private(pid: int) -> float:
    """MiB that belong to a process alone; 0 when it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    found = re.search(r"RssAnon:\s+(\d+)", status)
    return int(found[1]) / 1024 if found else 0.0


def ens(*arguments: str, cwd: Path) -> tuple[float, float]:
    """Run a command; its seconds of the processor, and the most memory it had for itself (MiB)."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "ensembler", *arguments]
    with subprocess.Popen(command, cwd=cwd, stdout=subprocess.DEVNULL) as process:
        most = 0.0
        while process.poll() is None:
            most = max(most, private(process.pid))
            time.sleep(0.005)
    if process.returncode:
        raise SystemExit(f"ens {' '.join(arguments)} ended with {process.returncode}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, most


def write_pool(folder: Path, members: int, n_train: int, n_test: int, classes: int) -> None:
    """Labels, and files of probabilities as another tool might leave them, member by member."""
    rng = np.random.default_rng(0)
    truth = rng.integers(0, classes, n_train + n_test)
    shared = rng.normal(size=(len(truth), classes)).astype(np.float32)
    for m in range(members):
        own = np.random.default_rng(m + 1)
        z = shared + 1.3 * own.standard_normal(shared.shape, dtype=np.float32)
        z[np.arange(len(z)), truth] += own.uniform(1.0, 3.5)
        z = np.exp(z - z.max(axis=1, keepdims=True))
        z /= z.sum(axis=1, keepdims=True)
        np.save(folder / f"m{m:02d}_oof.npy", z[:n_train])
        np.save(folder / f"m{m:02d}_test.npy", z[n_train:])
    with (folder / "labels.csv").open("w") as file:
        file.write("id,label,fold\n")
        file.writelines(f"a{i},c{truth[i]},{i % 5}\n" for i in range(n_train))
    with (folder / "test.csv").open("w") as file:
        file.write("id\n")
        file.writelines(f"b{i}\n" for i in range(n_test))


STEPS = {
    "import": "import large --labels labels.csv --folder . --test-ids test.csv --by-position",
    "blend --method simplex": "blend large --method simplex",
    "blend --method greedy": "blend large --method greedy",
    "evaluate": "evaluate large",
    "submit": "submit large --blend simplex",
}
SMALL = 500  # rows of a pool that shows what the commands themselves take


def measured(pool: list[int], n_test: int) -> Iterator[tuple[str, float, float]]:
    """Each step with its seconds and MiB, on a pool of its own."""
    members, rows, classes = pool
    with tempfile.TemporaryDirectory() as name:
        write_pool(Path(name), members, rows, n_test, classes)
        for what, command in STEPS.items():
            yield what, *ens(*command.split(), cwd=Path(name))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pool", default="20,1000000,10", help="members,rows,classes")
    parser.add_argument(
        "--test", type=int, default=None, help="test rows (default: as many)"
    )
    a = parser.parse_args()
    members, rows, classes = pool = [int(n) for n in a.pool.split(",")]
    small = {what: most for what, _, most in measured([members, SMALL, classes], SMALL)}
    column = members * rows * 4 / MIB
    print(
        f"{members} members, {rows:,} rows, {classes} classes: a column is {column:.0f} MiB"
    )
    for what, seconds, most in measured(pool, a.test or rows):
        growth = most - small[what]
        columns = growth / column
        print(
            f"{what:24s} {seconds:7.1f} s  {most:6.0f} MiB, {growth:6.0f} of them for the rows: "
            f"{columns:.1f} columns",
            flush=True,
        )


if __name__ == "__main__":
    main()
