"""How well and how fast, measured; docs and RESULTS.md say what came out."""

from tune.workers.ray_environment import set_ray_environment

set_ray_environment(loopback=True)
