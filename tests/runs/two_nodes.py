"""A small search over a cluster of two nodes, all on this machine and loopback.

python -m tests.runs.two_nodes OUT: run by test_cluster.py in a process of its own, as the
session's Ray must not know of the cluster. Each node claims one GPU, of another size.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from ray.cluster_utils import Cluster

import run_search
from tests.runs.helpers import arguments_of
from tune.cluster import CLAIMED

SMALL_GPU, LARGE_GPU = 1040, 81920  # MiB; the first has 16 MiB beyond what any process takes


def claims_gpu(folder: Path, mebibytes: int) -> dict[str, str]:
    """The environment of a node on which the GPU's tool tells of so much memory."""
    folder.mkdir(parents=True)
    tool = folder / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\necho {mebibytes}\n")
    tool.chmod(0o755)
    return {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", CLAIMED: "1"}


def main(out: Path) -> int:
    small, large = (
        {"num_cpus": 1, "num_gpus": 1, "env_vars": claims_gpu(out / "tools" / str(size), size)}
        for size in (SMALL_GPU, LARGE_GPU)
    )
    cluster = Cluster(initialize_head=True, head_node_args=small)
    cluster.add_node(**large)
    cluster.wait_for_nodes()
    try:
        return run_search.main(
            [
                *("--address", cluster.address, *arguments_of(out)),
                *("--partitions", "10", "--trials", "4", "--set", "search.samples=3000"),
                # One trial, the hand-picked one, does not fit on the small GPU.
                *("--set", "methods.llrd={space: {blocks: 11, lr: {loguniform: [1e-4, 1e-2]}}}"),
            ]
        )
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
