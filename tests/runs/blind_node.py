"""`evaluate` on a cluster with a machine that can read no photo, all on this machine and loopback.

python -m tests.runs.blind_node OUT: run by test_cluster.py in a process of its own; it prints what
each command came to, in JSON.
"""

from __future__ import annotations

import io
import json
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import ray
from ray.cluster_utils import Cluster

import run_search
from tune.workers.actor_pool import ActorPool

SOURCE = '''"""The `hidden:COUNT` source: squares and stripes, which not every machine can read."""

import os
from dataclasses import dataclass

from PIL import Image

from data.decoding import pixel_digest
from data.sources import SOURCES, Listing, SourceKind, UnreadableImageError


@dataclass(frozen=True)
class Reader:
    def digest(self, key):
        return pixel_digest(self.image(key))

    def image(self, key, least=None):
        if "NO_PHOTOS" in os.environ:
            raise UnreadableImageError(key, "no such file")
        label, _, number = key.partition("/")
        image = Image.new("RGB", (8, 8), (0, int(number) // 100, int(number) % 100))
        image.paste((200,) * 3, (0, 0, 8 if label == "stripe" else 4, 4))
        return image


class Hidden(SourceKind):
    place = "COUNT"

    def list_images(self, config):
        labels = tuple(("square", "stripe")[n % 2] for n in range(int(config.place)))
        keys = tuple(f"{label}/{n}" for n, label in enumerate(labels))
        return Listing(Reader(), keys, labels, splits=("train",) * len(keys))


SOURCES["hidden"] = Hidden()
'''
BLIND = {"NO_PHOTOS": "1"}
START = 60.0  # seconds within which a process starts on the new machine


def command(*words: str) -> tuple[int, str, str]:
    """Its exit code, and what it printed and complained of."""
    with redirect_stdout(io.StringIO()) as said, redirect_stderr(io.StringIO()) as told:
        code = run_search.main([*words])
    return code, said.getvalue(), told.getvalue()


def join_after_the_first_job(cluster: Cluster) -> None:
    """Have a machine without photos join while `ActorPool.map` works, and be asked for work."""
    plain = ActorPool.map
    added: list[str] = []

    def joining(pool: ActorPool, work: Any, context: Any, jobs: Any) -> Iterator[tuple[Any, Any]]:
        for each in plain(pool, work, context, jobs):
            if added:
                wait_for_a_process(added[0])  # or its job would go to an idle one
            else:
                added.append(cluster.add_node(num_cpus=1, num_gpus=0, env_vars=BLIND).node_id)
                cluster.wait_for_nodes()
            yield each

    ActorPool.map = joining  # type: ignore[method-assign]


def wait_for_a_process(node: str) -> None:
    """Wait until an actor has been started on a machine."""
    until = time.monotonic() + START
    while time.monotonic() < until:
        actors = ray._private.state.actors().values()
        there = [a["State"] for a in actors if a["Address"]["NodeID"] == node]
        if {*there} & {"ALIVE", "DEAD"}:
            return
        time.sleep(0.1)


def main(out: Path) -> dict[str, Any]:
    own, cache = out / "hidden.py", out / "cache"
    own.write_text(SOURCE)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "num_gpus": 0})
    cluster.add_node(num_cpus=1, num_gpus=0)
    cluster.wait_for_nodes()
    there = ("--import", str(own), "--address", cluster.address)
    sets = (
        *("data.source=hidden:400", "features.batch_size=4", f"features.cache={cache}"),
        *("final.seeds=1", "search.trials=1"),
    )
    settings = [word for setting in sets for word in ("--set", setting)]
    named = (
        "--set",
        "data.source=hidden:400",
        "--name",
        "small",
        "--methods",
        "frozen",
        "--partitions",
        "100",
    )
    evaluate = ("evaluate", str(out / "small"), *there)
    try:
        told: dict[str, Any] = {}
        code, _, line = command(*named, "--out", str(out), *settings, *there)
        assert code == 0, line
        shutil.rmtree(cache)  # so that photos are read
        blind = cluster.add_node(num_cpus=1, num_gpus=0, env_vars=BLIND)
        cluster.wait_for_nodes()
        told["blind"] = command(*evaluate)
        cluster.remove_node(blind)
        shutil.rmtree(cache, ignore_errors=True)
        join_after_the_first_job(cluster)
        told["late"] = command(*evaluate)
        return told
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
