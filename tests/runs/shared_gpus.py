"""A cluster that claims GPUs of two kinds, which trials share, all on this machine and loopback.

python -m tests.runs.shared_gpus: run by test_cluster.py in a process of its own; it prints what it
saw, in JSON.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from ray.cluster_utils import Cluster

from search_spaces import ResourcesConfig
from tune.workers import survey
from tune.workers.actor_pool import ActorPool
from tune.workers.cluster import connected
from tune.workers.own_device import CLAIMED

CARDS = {"V100": 1, "A100": 2}  # and how many of them its machine has
SHARE = 0.5
TRIALS = int(sum(CARDS.values()) / SHARE)
PATIENCE = 120.0  # seconds


def given(meeting: Path, number: int) -> tuple[str, str]:
    """The card and its number that a process is given, once all processes are there."""
    (meeting / str(number)).touch()
    until = time.monotonic() + PATIENCE
    while len(list(meeting.iterdir())) < TRIALS and time.monotonic() < until:
        time.sleep(0.1)
    return os.environ["CARD"], os.environ["CUDA_VISIBLE_DEVICES"]


def as_card() -> str:
    """Have this process's GPU compute as its card does, though it is not there."""
    vars(survey)["available_device"] = lambda: "cuda"
    vars(torch.cuda)["is_bf16_supported"] = lambda including_emulation: os.environ["CARD"] == "A100"
    return ""


def main() -> dict[str, Any]:
    os.environ |= {"CUDA_VISIBLE_DEVICES": "98,99", CLAIMED: "1"}  # torch sees no such GPUs
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "num_gpus": 0})
    for card, count in CARDS.items():
        cluster.add_node(num_cpus=8, num_gpus=count, env_vars={"CARD": card})
    cluster.wait_for_nodes()
    try:
        with connected(ResourcesConfig(gpus_per_trial=SHARE), cluster.address, 0) as found:
            precision = survey.ask_devices(found, "auto", trouble=as_card).precision
            with ActorPool(found.slot) as pool, TemporaryDirectory() as meeting:
                told = pool.map(given, Path(meeting), range(TRIALS))
                processes = sorted(result for _, result in told)
            return {"precision": precision, "slots": found.slots, "processes": processes}
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    print(json.dumps(main()))
