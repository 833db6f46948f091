"""Tests, which keep to loopback."""

from tune.workers.ray_environment import set_ray_environment

set_ray_environment(loopback=True)  # before anything imports Ray
