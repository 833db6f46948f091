"""A small search, one trial at a time, on a Ray whose object store holds little.

python -m tests.chaos.crowded_store OUT MEGABYTES: run by test_full_places.py in a process of its
own. Prints what Ray says of its memory.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import ray
from ray._private.internal_api import memory_summary

from tests.runs.helpers import run_quietly, small

BALLAST = 70  # megabytes of others' objects, which must stay too
SETTINGS = (
    *("data.partitions=[10]", "final.seeds=1", "methods.seed_llrd.space.views=2"),
    "features.batch_size=256",
)


def main(out: Path, megabytes: int) -> None:
    ray.init(
        address="local",
        num_cpus=1,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=megabytes << 20,
    )
    ballast = [ray.put(np.full(1 << 20, number, np.uint8)) for number in range(BALLAST)]
    run_quietly(small(*SETTINGS, methods=["frozen", "seed_llrd"]), out)
    assert [int(ray.get(ref)[-1]) for ref in ballast] == list(range(BALLAST))
    print(memory_summary(ray.get_runtime_context().gcs_address, stats_only=True))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
