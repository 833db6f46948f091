"""A small search over a cluster of two nodes, all on this machine and loopback.

python -m tests.runs.two_nodes OUT: run by test_cluster.py in a process of its own, as the
session's Ray must not know of the cluster. The head has no room for trials; each of the two other
nodes claims one GPU, of another size. The run, `OUT/small`, has a cache of its own and a copy in an
object store; what neither tells is written to `OUT/told.json`. It runs in the folder `OUT/here`.
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
import tune.machines
from tests.object_store import object_store
from tests.runs.helpers import arguments_of
from tune.storage.storage import Storage
from tune.workers.actor_pool import ActorPool
from tune.workers.own_device import CLAIMED
from tune.workers.survey import ask_devices

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
    """Have `ActorPool.map` note on which nodes its processes are, by what they do."""
    plain = ActorPool.map

    def noting(pool: ActorPool, work: Any, context: Any, jobs: Any) -> Iterator[tuple[Any, Any]]:
        found: set[str] = set()
        for each in plain(pool, work, context, jobs):
            found |= {
                actor["Address"]["NodeID"]
                for actor in ray._private.state.actors().values()
                if actor["State"] == "ALIVE" and "_Slot" in actor["ActorClassName"]
            }
            yield each
        nodes.setdefault(work.__name__, []).extend(sorted(found))

    ActorPool.map = noting  # type: ignore[method-assign]


def main(out: Path) -> int:
    nodes: dict[str, list[str]] = {}
    os.environ |= {"CUDA_VISIBLE_DEVICES": "99", CLAIMED: "1"}  # torch sees no such GPU
    note_nodes(nodes)
    vars(tune.machines)["ask_devices"] = functools.partial(ask_devices, trouble=no_trouble)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "num_gpus": 0})
    for size in (SMALL_GPU, LARGE_GPU):
        add_node(cluster, out / "tools", size)
    cluster.wait_for_nodes()
    os.chdir(out / "here")
    try:
        cache = ("--set", f"features.cache={out / 'cache'}")
        with object_store("runs") as bucket:
            code = search(out, cluster, "10", 3000, *cache, "--storage", bucket, "--trials", "4")
            copied = list((Storage.at(bucket) / "small").listing())
        (out / "told.json").write_text(json.dumps({"nodes": nodes, "copied": copied}))
        return code
    finally:
        cluster.shutdown()


def add_node(cluster: Cluster, tools: Path, mebibytes: int) -> None:
    claims = claims_gpu(tools / str(mebibytes), mebibytes)
    cluster.add_node(num_cpus=1, num_gpus=1, env_vars=claims)


def search(out: Path, cluster: Cluster, partition: str, samples: int, *more: str) -> int:
    return run_search.main(
        [
            *("--address", cluster.address, *arguments_of(out), "--partitions", partition, *more),
            *("--set", f"search.samples={samples}"),
            # One trial, the hand-picked one, does not fit on the small GPU.
            *("--set", "methods.llrd={space: {blocks: 11, lr: {loguniform: [1e-4, 1e-2]}}}"),
        ]
    )


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
