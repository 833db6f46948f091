"""A small search over a cluster of two nodes, all on this machine and loopback.

python -m tests.runs.two_nodes OUT: run by test_cluster.py in a process of its own, as the
session's Ray must not know of the cluster.
"""

from __future__ import annotations

import sys
from pathlib import Path

from ray.cluster_utils import Cluster

import run_search
from tests.runs.helpers import arguments_of


def main(out: Path) -> int:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    try:
        return run_search.main(
            [
                *("--address", cluster.address, *arguments_of(out)),
                *("--partitions", "10", "--set", "search.samples=3000"),
            ]
        )
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
