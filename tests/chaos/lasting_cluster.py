"""A cluster on this machine and loopback, until standard input ends; prints its address.

python -m tests.chaos.lasting_cluster: run by the fixture `cluster`.
"""

from __future__ import annotations

import sys

from ray.cluster_utils import Cluster

if __name__ == "__main__":
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "num_gpus": 0})
    print(cluster.address, flush=True)
    sys.stdin.read()
    cluster.shutdown()
