"""Which machines a trial may go to, by the memory of their GPUs, and which trial goes next."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from ray import tune as ray_tune
from ray.tune.experiment import Trial

from errors import InputError
from tune.workers import machines
from tune.workers.gpus import room_for_tensors
from tune.workers.machines import LABEL, BarredMachines, LostMachines

ALIKE = 0.9  # of the largest GPU's memory: GPUs with more count as equally large
PATIENCE = 120.0  # seconds to wait for a new trial's own actor, before it gets any that is free

Layers = tuple[str, str]  # blocks, kinds


@dataclass(frozen=True)
class Placement:
    """Sends each trial to machines whose GPU has room for a whole batch of it.

    A trial that fits on no machine goes to those with the largest GPUs. There it is trained in
    portions (`models.micro_batches`), as is any trial that takes more memory than expected.

    Attributes:
        slot: resources of a trial.
        memory: bytes of GPU memory for one trial, by the machine's id in Ray. A machine that is
            missing here, as one that joined later, gets only trials that may go to any machine.
        slots_at: trials that each machine runs at once.
        needs: bytes for the state and for an example (`models.flops.training_memory`), by layers.
    """

    slot: Mapping[str, float]
    memory: Mapping[str, int] = field(default_factory=dict)
    slots_at: Mapping[str, int] = field(default_factory=dict)
    needs: Mapping[Layers, tuple[int, int]] = field(default_factory=dict)

    @property
    def mixed(self) -> bool:
        """Whether GPUs differ in size."""
        sizes = self.memory.values()
        return bool(sizes) and min(sizes) < ALIKE * max(sizes)

    def nodes(self, config: Mapping[str, Any]) -> frozenset[str] | None:
        """Find the machines for a trial with these settings; None for all."""
        if not self.mixed:
            return None
        from models.device import CONTEXT  # torch waits: each trial's process loads this file
        from models.recipe import Recipe

        recipe = Recipe(**config)
        state, example = self.needs.get((recipe.blocks, recipe.kinds), (0, 0))
        need = CONTEXT + state + recipe.batch_size * example
        least = min(need, ALIKE * max(self.memory.values()))
        enough = frozenset(node for node, room in self.memory.items() if room >= least)
        return None if len(enough) == len(self.memory) else enough

    def nodes_of(self, trial: Mapping[str, Any]) -> frozenset[str] | None:
        """Find the machines for a trial, given its `config` as the searcher made it."""
        return None if trial["anywhere"] else self.nodes(trial["config"])

    def request(self, trial: Mapping[str, Any]) -> ray_tune.PlacementGroupFactory:
        """Say what Tune is to ask Ray for, given a trial's `config`."""
        nodes = self.nodes_of(trial)
        if nodes is None:
            return ray_tune.PlacementGroupFactory([dict(self.slot)])
        where = {LABEL: f"in({','.join(sorted(nodes))})"}
        return ray_tune.PlacementGroupFactory([dict(self.slot)], bundle_label_selector=[where])


def check_room(
    needs: Mapping[Layers, tuple[int, int]], memory: Mapping[str, int], share: float
) -> None:
    """Raise InputError if the GPUs have no room for something, not even for one image at a time.

    Args:
        needs: bytes for the state and for an example, by layers.
        memory: bytes of GPU memory for one trial, by machine.
        share: of a GPU that a trial has.
    """
    if not memory or not needs:
        return
    (blocks, kinds), need = max(
        ((layers, state + example) for layers, (state, example) in needs.items()),
        key=lambda pair: pair[1],
    )
    largest = max(memory.values())
    if need <= room_for_tensors(largest):
        return
    fitting = [part for part in (2, 1) if need <= room_for_tensors(largest / share / part)]
    allowed = "blocks: fewer of them, kinds: ln or a lora_rank"
    if share < 1 and fitting:
        allowed = f"resources.gpus_per_trial: {1 / fitting[0]:g}, {allowed}"
    raise InputError(
        f"methods: blocks {blocks} with kinds {kinds} take {need / 1e9:.1f} GB of a GPU, and a "
        f"trial has {largest / 1e9:.1f} GB; allowed: {allowed}"
    )


class TrialQueue:
    """The trials that run or wait for an actor; decides which of them gets one that is free."""

    def __init__(
        self,
        placement: Placement,
        alive: Callable[[], Collection[str]] = machines.alive,
        lost: LostMachines | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._placement, self._alive, self._now = placement, alive, now
        self._lost = lost or LostMachines(placement.slot)
        self._trials: list[tuple[float, Trial]] = []  # with when they were added, oldest first

    def add(self, trial: Trial) -> None:
        """Add a trial that waits, be it new, or one that lost its process and is tried again."""
        self._trials = [pair for pair in self._trials if pair[1] is not trial]
        self._trials.append((self._now(), trial))

    @property
    def waiting(self) -> int:
        """Number of trials that wait for an actor on any machine."""
        return sum(self._nodes(trial) is None for _, trial in self._pending())

    def anywhere(self, config: Mapping[str, Any]) -> bool:
        """Whether a new trial should go to any machine, although it fits only on some.

        It should if enough trials wait for those: trained in portions, it keeps another machine
        from standing idle.
        """
        nodes = self._placement.nodes(config)
        if nodes is None:
            return False
        wait = sum(self._nodes(trial) is not None for _, trial in self._pending())
        return wait >= sum(self._placement.slots_at[node] for node in nodes)

    def request_beside(
        self, barred: BarredMachines, trial: Trial
    ) -> ray_tune.PlacementGroupFactory | None:
        """Say what Tune is to ask Ray for, if some machines are barred; None if as before.

        Trials for certain machines go to those that were there at the start, which are not barred.
        """
        others = barred.others()
        if not others or self._nodes(trial) is not None:
            return None
        slot = dict(self._placement.slot)
        return ray_tune.PlacementGroupFactory([slot], bundle_label_selector=[others])

    def next(self) -> Trial | None:
        """Choose the trial that gets a free actor; None if no trial waits.

        Tune kills the actor that is starting for the chosen trial. So the newest is chosen, whose
        actor has hardly begun to start. Tune itself would choose the oldest, whose actor is almost
        up: of 16 slots on two cores, only three were ever used. A trial whose own actor is still
        not up after `PATIENCE` waits for a machine that has gone, and is chosen first.

        Raises:
            InputError: no machine, or none for the oldest trial, has been there for long.
        """
        pending = self._pending()
        self._lost.check(all_wait=bool(pending) and len(pending) == len(self._trials))
        if not pending:
            return None
        since, oldest = pending[0]
        waited = self._now() - since
        if waited > machines.NO_MACHINE:
            nodes = self._nodes(oldest)
            if nodes is not None and nodes.isdisjoint(self._alive()):
                raise InputError(
                    "--address: no machine with enough GPU memory for a trial for "
                    f"{machines.NO_MACHINE:g} s; what was done is kept: --resume goes on with the "
                    "machines that are left"
                )
        return oldest if waited > PATIENCE else pending[-1][1]

    def _nodes(self, trial: Trial) -> frozenset[str] | None:
        return self._placement.nodes_of(trial.config)

    def _pending(self) -> list[tuple[float, Trial]]:
        states = (Trial.PENDING, Trial.RUNNING)
        self._trials = [pair for pair in self._trials if pair[1].status in states]
        return [pair for pair in self._trials if pair[1].status == Trial.PENDING]
