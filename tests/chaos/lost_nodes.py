"""A small search over three nodes on this machine, of which one or two are killed.

python -m tests.chaos.lost_nodes OUT one|all REPORTS: run by test_killed_trials.py in a process of
its own. The first node has no room for trials; after so many reports, and some from each of the
others, one of those is killed, or both.
"""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

from ray.cluster_utils import Cluster

import run_search
import tune.workers.machines
from tests.runs.helpers import arguments_of, events

NO_MACHINE = 10.0  # seconds, instead of the 15 minutes of a real cluster


def reported(run_dir: Path) -> list[str]:
    """The node of every report so far."""
    if not (run_dir / "events.jsonl").exists():
        return []
    return [event["node"] for event in events(run_dir, "trial_report")]


def main(out: Path, which: str, reports: int) -> int:
    tune.workers.machines.NO_MACHINE = NO_MACHINE
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "num_gpus": 0})
    nodes = [cluster.add_node(num_cpus=1, num_gpus=0) for _ in range(2)]
    cluster.wait_for_nodes()

    def kill() -> None:
        while len(told := reported(out / "small")) < reports or len(set(told)) < len(nodes):
            time.sleep(0.05)
        for node in nodes if which == "all" else nodes[:1]:
            cluster.remove_node(node, allow_graceful=False)

    threading.Thread(target=kill, daemon=True).start()
    try:
        return run_search.main(
            [
                *("--address", cluster.address, *arguments_of(out)),
                *("--partitions", "100", "--set", "search.samples=6000"),
            ]
        )
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
