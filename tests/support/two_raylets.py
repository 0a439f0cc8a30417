"""Two nodes of a Ray cluster on loopback, until standard input ends: prints the head's address.

A line of input ends the second node at once, as a machine that is lost does.
"""

import os
import sys
import tempfile
from pathlib import Path


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="r-", ignore_cleanup_errors=True) as folder:
        # before Ray is imported: it keeps the address of the latest cluster there
        os.environ["RAY_TMPDIR"] = folder
        (Path(folder) / "ray").mkdir()
        from ray.cluster_utils import Cluster

        arguments = {
            "num_cpus": 1,
            "include_dashboard": False,
            "object_store_memory": 100 * 2**20,
            "temp_dir": folder,
        }
        cluster = Cluster(initialize_head=True, head_node_args=arguments)
        second = cluster.add_node(**arguments)
        print(cluster.address, flush=True)
        if sys.stdin.readline():
            cluster.remove_node(second, allow_graceful=False)
            print("removed", flush=True)
            sys.stdin.read()
        cluster.shutdown()


if __name__ == "__main__":
    main()
