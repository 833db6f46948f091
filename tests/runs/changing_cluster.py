"""A cluster whose machines come and go while it is used, all on this machine and loopback.

python -m tests.runs.changing_cluster: run by test_cluster.py in a process of its own; it prints
what it saw, in JSON.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import ray
from ray.cluster_utils import Cluster

from search_spaces import ResourcesConfig
from tune.workers.actor_pool import ActorPool
from tune.workers.cluster import connected
from tune.workers.machines import alive, ask

STORES = [90 << 20, 80 << 20, 100 << 20]  # of the head and of the first machines


def where(_: str, seconds: float) -> str:
    """Work for so long, and tell on which machine."""
    time.sleep(seconds)
    node: str = ray.get_runtime_context().get_node_id()
    return node


def used(pool: ActorPool, enough: int, most: int) -> int:
    """The number of machines that jobs were done on, `most` at the most."""
    seen: set[str] = set()

    def jobs() -> Iterator[float]:
        for _ in range(most):
            if len(seen) < enough:
                yield 0.5

    for _, node in pool.map(where, "", jobs()):
        seen.add(node)
    return len(seen)


def main() -> dict[str, Any]:
    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 0, "num_gpus": 0, "object_store_memory": STORES[0]},
    )
    cluster.add_node(num_cpus=1, num_gpus=0, object_store_memory=STORES[1])
    try:
        with connected(ResourcesConfig(), cluster.address, 0) as found:
            told: dict[str, Any] = {"store": found.store}
            with ActorPool(found.slot, found.grows, look=0.5) as pool:
                told["at first"] = used(pool, 2, most=3)
                last = cluster.add_node(num_cpus=1, num_gpus=0, object_store_memory=STORES[2])
                cluster.wait_for_nodes()
                told["grown"] = used(pool, 2, most=200)
            nodes = list(alive())
            threading.Timer(3.0, lambda: cluster.remove_node(last)).start()
            task = ray.remote(num_cpus=0)(where)
            told["asked"], told["answered"] = len(nodes), len(ask(nodes, task, "", 15.0))
            # One that has gone before it is asked.
            told["asked later"] = len(ask(nodes, task, "", 0.0))
            return told
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    print(json.dumps(main()))
