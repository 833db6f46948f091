"""Measurements of quality and speed; docs/ says what came out."""

from tune.workers.ray_environment import set_ray_environment

set_ray_environment(loopback=True)
