"""Wait until N nodes of a Ray cluster are up.

    python cluster/wait_for_nodes.py HOST:PORT N

It waits for five minutes at most. Then it fails if no node is up; if some are up, the run goes on
with those.
"""

from __future__ import annotations

import logging
import sys
import time

import ray

PATIENCE = 300.0  # seconds


def main(address: str, wanted: int) -> int:
    """Wait, and return the exit code."""
    end = time.monotonic() + PATIENCE
    while not ray.is_initialized():
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL)
        except Exception as error:  # the head is on its way; Ray has many ways to say so
            ray.shutdown()
            if time.monotonic() > end:
                print(f"no Ray cluster at {address}: {error}", file=sys.stderr)
                return 1
            time.sleep(1)
    while (up := sum(node["Alive"] for node in ray.nodes())) < wanted:
        if time.monotonic() > end:
            print(f"{up} of {wanted} nodes are up; going on with them", file=sys.stderr)
            break
        time.sleep(1)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
