"""A small search over a cluster of two nodes, all on this machine and loopback.

python -m tests.runs.two_nodes OUT: run by test_cluster.py in a process of its own, as the
session's Ray must not know of the cluster. Each node claims one GPU, of another size. The run has a
cache of its own and a copy in an object store; what neither tells is written to `OUT/told.json`.
"""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray
from ray.cluster_utils import Cluster

import run_search
import tune.run
from tests.object_store import object_store
from tests.runs.helpers import arguments_of
from tune.storage.storage import Storage
from tune.workers.actor_pool import Pool
from tune.workers.survey import resolved_precision

SMALL_GPU, LARGE_GPU = 1040, 81920  # MiB; the first has 16 MiB beyond what any process takes


def claims_gpu(folder: Path, mebibytes: int) -> dict[str, str]:
    """The environment of a node on which the GPU's tool tells of so much memory."""
    folder.mkdir(parents=True)
    tool = folder / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\necho {mebibytes}\n")
    tool.chmod(0o755)
    return {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}


def no_trouble() -> str:
    """In place of trying the GPU, which is not there."""
    return ""


def note_nodes(nodes: dict[str, list[str]]) -> None:
    """Have `Pool.map` note on which nodes its processes are, by what they do."""
    plain = Pool.map

    def noting(pool: Pool, work: Any, context: Any, jobs: Any) -> Iterator[tuple[Any, Any]]:
        found: set[str] = set()
        for each in plain(pool, work, context, jobs):
            found |= {
                actor["Address"]["NodeID"]
                for actor in ray._private.state.actors().values()
                if actor["State"] == "ALIVE" and "_Slot" in actor["ActorClassName"]
            }
            yield each
        nodes.setdefault(work.__name__, []).extend(sorted(found))

    Pool.map = noting  # type: ignore[method-assign]


def main(out: Path) -> int:
    nodes: dict[str, list[str]] = {}
    note_nodes(nodes)
    tune.run.resolved_precision = functools.partial(resolved_precision, trouble=no_trouble)
    with object_store("runs") as bucket:
        code = search(out, bucket)
        copied = (Storage.at(bucket) / "small").files()
    (out / "told.json").write_text(json.dumps({"nodes": nodes, "copied": copied}))
    return code


def search(out: Path, bucket: str) -> int:
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
                *("--address", cluster.address, "--storage", bucket, *arguments_of(out)),
                *("--set", f"features.cache={out / 'cache'}"),
                *("--partitions", "10", "--trials", "4", "--set", "search.samples=3000"),
                # One trial, the hand-picked one, does not fit on the small GPU.
                *("--set", "methods.llrd={space: {blocks: 11, lr: {loguniform: [1e-4, 1e-2]}}}"),
            ]
        )
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
