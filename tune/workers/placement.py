"""Which machines a trial may go to, by the memory of their GPUs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import ray
from ray import tune as ray_tune

LABEL = "ray.io/node-id"  # Ray puts it on every node
ALIKE = 0.9  # of the largest GPU: as large

Layers = tuple[str, str]  # blocks, kinds
# Every trial's process loads this file with its trainable: what takes seconds, torch, waits.


@dataclass(frozen=True)
class Placement:
    """Where trials go: where a whole batch fits, if not every machine has room for one.

    What fits nowhere goes to the largest GPUs, where it is trained in portions
    (`models.micro_batches`); so does whatever takes more than is said here.

    Attributes:
        slot: what a trial takes.
        memory: bytes that a trial has of its GPU, by the machine's id in Ray. Machines of which
            it is not known, or that joined later, get what may go anywhere.
        slots_at: trials that each machine takes at once.
        needs: as of `models.flops.training_memory`, of every choice of layers.
    """

    slot: Mapping[str, float]
    memory: Mapping[str, int] = field(default_factory=dict)
    slots_at: Mapping[str, int] = field(default_factory=dict)
    needs: Mapping[Layers, tuple[int, int]] = field(default_factory=dict)

    @property
    def mixed(self) -> bool:
        """Whether it matters where a trial goes."""
        sizes = self.memory.values()
        return bool(sizes) and min(sizes) < ALIKE * max(sizes)

    def nodes(self, config: Mapping[str, Any]) -> frozenset[str] | None:
        """The machines that a trial with these settings may go to; None for all."""
        if not self.mixed:
            return None
        from models.device import CONTEXT
        from models.recipe import Recipe

        recipe = Recipe(**config)
        state, example = self.needs.get((recipe.blocks, recipe.kinds), (0, 0))
        need = CONTEXT + state + recipe.batch_size * example
        least = min(need, ALIKE * max(self.memory.values()))
        enough = frozenset(node for node, room in self.memory.items() if room >= least)
        return None if len(enough) == len(self.memory) else enough

    def crowded(self, config: Mapping[str, Any], waiting: int) -> bool:
        """Whether so many trials that wait for some machines are enough for those.

        Another had better go anywhere, and be trained in portions, than leave the rest idle.
        """
        nodes = self.nodes(config)
        return nodes is not None and waiting >= sum(self.slots_at[node] for node in nodes)

    def request(self, trial: Mapping[str, Any]) -> ray_tune.PlacementGroupFactory:
        """What Tune is to ask Ray for, given a trial's `config` as the searcher made it."""
        nodes = None if trial["anywhere"] else self.nodes(trial["config"])
        if nodes is None:
            return ray_tune.PlacementGroupFactory([dict(self.slot)])
        where = {LABEL: f"in({','.join(sorted(nodes))})"}
        return ray_tune.PlacementGroupFactory([dict(self.slot)], bundle_label_selector=[where])

    def lost(self, config: Mapping[str, Any]) -> bool:
        """Whether all machines that a trial with these settings may go to have gone."""
        nodes = self.nodes(config)
        return nodes is not None and not nodes & {n["NodeID"] for n in ray.nodes() if n["Alive"]}
