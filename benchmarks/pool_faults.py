"""A pool under fire: several processes share at once and are killed at random moments.

    python benchmarks/pool_faults.py --place folder --processes 8 --kills 100
    python benchmarks/pool_faults.py --place s3 --processes 8 --kills 100   # moto's server on loopback

Every process shares its own run; two of them hold the same members. Some processes are killed
(SIGKILL) after a random time and started again, until so many were killed; meanwhile a reader lists
the pool and pulls what it sees. At the end everybody shares once more. It counts what the goals
are: every record once, all files right, `ens ls` never shows a member that does not pull, a second
share writes nothing.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import shutil
import tempfile
import time
from pathlib import Path

from ensembler.predictions.store import RunStore
from ensembler.predictions.testing import write_fake_run
from ensembler.sharing.layout import MEMBERS, blob_path, digest
from ensembler.sharing.ls import list_pool
from ensembler.sharing.places import open_place
from ensembler.sharing.pool import Listed, Pool
from ensembler.sharing.pull import pull_members
from ensembler.sharing.share import share_run

MEMBERS_EACH = 6


def author_of(number: int) -> str:
    return f"person{number}"


def share(folder: Path, target: str, number: int) -> None:
    """What one process does: share its run, as `ens share` does."""
    share_run(RunStore(folder), target, author=author_of(number))


def make_runs(folder: Path, people: int) -> list[Path]:
    """Runs with the same rows; those of the first two people hold the same predictions."""
    runs = []
    for number in range(people):
        strengths = {
            f"m{k}": 1.0 + 0.1 * k + 0.01 * max(number, 1) for k in range(MEMBERS_EACH)
        }
        path = folder / f"run{number}"
        write_fake_run(path, strengths, n_train=3000, n_test=1000)
        runs.append(path)
    return runs


def check_readers(target: str, scratch: Path, mine: Path) -> tuple[int, int]:
    """List the pool and pull all that it shows; how many were shown, and how many did not pull."""
    try:
        shown = list_pool(target).members
    except Exception as error:
        if "is not a pool" in str(error):
            return 0, 0
        raise
    if not shown:
        return 0, 0
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    shutil.copy(mine / "samples.csv", scratch / "samples.csv")
    taken = pull_members(RunStore(scratch), target)
    for left in taken.skipped:
        print(f"  not pulled: {left.member}: {left.reason}")
    return len(shown), len(taken.skipped)


def run(target: str, people: int, kills: int, seed: int, folder: Path) -> dict[str, object]:
    rng = random.Random(seed)
    context = multiprocessing.get_context("fork")
    runs = make_runs(folder, people)
    alive: dict[int, tuple[multiprocessing.Process, float]] = {}
    killed = finished = shown = not_pulled = failed = 0
    seconds = 2.0
    while killed < kills:
        for number in range(people):
            if number in alive:
                continue
            process = context.Process(target=share, args=(runs[number], target, number))
            process.start()
            alive[number] = (process, time.monotonic() + rng.uniform(0, seconds))
        for number, (process, until) in list(alive.items()):
            if not process.is_alive():
                process.join()
                finished += 1
                failed += process.exitcode not in (0, -9)
                del alive[number]
            elif time.monotonic() > until and killed < kills:
                process.kill()
                process.join()
                killed += 1
                del alive[number]
        if rng.random() < 0.05:
            seen, wrong = check_readers(target, folder / "reader", runs[0])
            shown, not_pulled = shown + seen, not_pulled + wrong
        # when nearly all end before they are killed, or the other way round, kill earlier or later
        share_killed = killed / max(killed + finished, 1)
        seconds *= 0.98 if share_killed < 0.5 else 1.02
        time.sleep(0.01)
    for process, _ in alive.values():
        process.join()
    processes = [
        context.Process(target=share, args=(path, target, number))
        for number, path in enumerate(runs)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    failed += sum(process.exitcode != 0 for process in processes)
    seen, wrong = check_readers(target, folder / "reader", runs[0])
    written = sum(
        share_run(RunStore(path), target, author=author_of(n)).bytes
        for n, path in enumerate(runs)
    )
    return {
        "target": target,
        "killed": killed,
        "finished": finished,
        "failed": failed,
        "shown_to_readers": shown + seen,
        "shown_and_not_pulled": not_pulled + wrong,
        "records_expected": people * MEMBERS_EACH,
        **counted(target),
        "bytes_of_a_second_share": written,
    }


def counted(target: str) -> dict[str, int]:
    """How many records and files there are, and how many of them are not what their names say."""
    pool = Pool.open(target)
    place = open_place(target)
    records = [path for path in pool.listing if path.startswith(f"{MEMBERS}/")]
    found = [member for split in pool.splits for member in pool.members(split)]
    listed = [member for member in found if isinstance(member, Listed)]
    names = {(member.shared.name, member.shared.author) for member in listed}
    blobs = [path for path in pool.listing if path.startswith("blobs/")]
    altered = sum(
        path != blob_path(digest(place.read(path, pool.listing[path]))) for path in blobs
    )
    left = 0
    if "://" not in target:
        left = sum(path.name.endswith(".aside") for path in Path(target).rglob("*"))
    return {
        "records": len(records),
        "records_usable": len(listed),
        "members_with_one_record": len(names),
        "blobs": len(blobs),
        "blobs_altered": altered,
        "files_left_by_the_dead": left,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--place", choices=("folder", "s3"), default="folder")
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pool-") as name:
        folder = Path(name)
        if given.place == "folder":
            found = run(
                str(folder / "pool"), given.processes, given.kills, given.seed, folder
            )
        else:
            found = on_s3(given, folder)
    print(json.dumps(found, indent=2))


def on_s3(given: argparse.Namespace, folder: Path) -> dict[str, object]:
    context = multiprocessing.get_context("spawn")
    port = context.Queue()
    server = context.Process(target=serve, args=(port,), daemon=True)
    server.start()
    os.environ |= {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port.get()}",
        "AWS_ACCESS_KEY_ID": "any",
        "AWS_SECRET_ACCESS_KEY": "any",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    import botocore.session

    botocore.session.get_session().create_client("s3").create_bucket(Bucket="team")
    try:
        return run("s3://team/pool", given.processes, given.kills, given.seed, folder)
    finally:
        server.kill()


def serve(port: multiprocessing.Queue[int]) -> None:
    from moto.server import ThreadedMotoServer

    running = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    port.put(running.get_host_and_port()[1])
    while True:
        time.sleep(60)


if __name__ == "__main__":
    main()
