"""A small search on a Ray whose object store holds little.

python -m tests.chaos.crowded_store OUT: run by test_full_places.py in a process of its own. Prints
what Ray says of its memory.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import ray
from ray._private.internal_api import memory_summary

from tests.runs.helpers import run_quietly, small

STORE, BALLAST = 80, 76  # megabytes: in all, and of others' objects, which must stay too
METHODS = (
    "zero_shot",
    "frozen",
    "seed_llrd",
)  # of one trial each, so that nothing depends on the slots


def main(out: Path) -> None:
    ray.init(
        address="local",
        num_cpus=1,
        num_gpus=0,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=STORE << 20,
    )
    ballast = [ray.put(np.full(1 << 20, number, np.uint8)) for number in range(BALLAST)]
    run_quietly(small("data.partitions=[10]", methods=METHODS), out)
    assert [int(ray.get(ref)[-1]) for ref in ballast] == list(range(BALLAST))
    print(memory_summary(ray.get_runtime_context().gcs_address, stats_only=True))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
