"""The machines of a cluster: how many trials each takes, and what to do once none is left.

Every trial's process loads this file with its trainable, so nothing here imports torch.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from errors import InputError, one_line

LABEL = "ray.io/node-id"  # Ray puts it on every node
GONE = (ray.exceptions.NodeDiedError, ray.exceptions.TaskUnschedulableError)
NO_MACHINE = 900.0  # seconds without any; an autoscaler has brought another by then


def alive() -> dict[str, dict[str, Any]]:
    """Return what Ray knows of each machine that is alive, by its id."""
    return {node["NodeID"]: node for node in ray.nodes() if node["Alive"]}


def on_node(node: str, task: Any) -> Any:
    """Have a remote function run on the machine with this id."""
    return task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False))


def ask(nodes: Iterable[str], task: Any, *arguments: Any) -> dict[str, Any]:
    """Have a remote function run on each of these machines; see `answers`."""
    return answers({on_node(node, task).remote(*arguments): node for node in nodes})


def answers(asked: Mapping[Any, str]) -> dict[str, Any]:
    """Return what tasks came to, by machine; a machine that dies meanwhile is not there.

    `asked` has the machine of each task.

    Raises:
        InputError: they are all gone.
        RayError: a task failed on a machine that is there.
    """
    found = {}
    for task, node in asked.items():
        try:
            found[node] = ray.get(task)
        except GONE:
            continue
        except ray.exceptions.WorkerCrashedError:
            if node in alive():
                raise
    if asked and not found:
        raise InputError("--address: the cluster's machines went away as they were asked; again")
    return found


def slots_at(slot: Mapping[str, float]) -> dict[str, int]:
    """Count the slots, free or not, of each machine that has any; by its id."""
    found = {node: slots_of(about["Resources"], slot) for node, about in alive().items()}
    return {node: slots for node, slots in found.items() if slots}


def slots_of(machine: Mapping[str, float], slot: Mapping[str, float]) -> int:
    """Count the slots of one machine; a share of a GPU never straddles two."""
    by_cpu = int(machine.get("CPU", 0) / slot["CPU"] + 1e-9)
    share = slot.get("GPU")
    if share is None:
        return by_cpu
    return min(by_cpu, int(machine.get("GPU", 0)) * int(1 / share + 1e-9))


class UnfitMachineError(RuntimeError):
    """A machine that joined in the midst of a run lacks what the run's work takes.

    Its text says all, as some of Ray's libraries pass on no more than that.
    """

    def __init__(self, node: str, address: str, reason: str) -> None:
        super().__init__(node, address, one_line(reason))
        self.node = node

    def __str__(self) -> str:
        node, address, reason = self.args
        return f"machine {node} at {address}: {reason}"

    @classmethod
    def told_in(cls, text: str) -> UnfitMachineError | None:
        """Read one back from a traceback; None if the text tells of none."""
        found = re.search(cls.__name__ + r": machine (\w+) at (\S+): (.*)", text)
        return cls(*found.groups()) if found else None

    @property
    def line(self) -> str:
        """The message to the user."""
        _, address, reason = self.args
        return f"{address} has joined and gets no work: {reason}"


class BarredMachines:
    """The machines that are unfit and get no work; `tell` gets a line about each."""

    def __init__(self, tell: Callable[[str], None] = lambda line: None) -> None:
        self.nodes: set[str] = set()
        self._tell = tell

    def bar(self, unfit: UnfitMachineError) -> None:
        """Give a machine no more work."""
        if unfit.node not in self.nodes:
            self.nodes.add(unfit.node)
            self._tell(unfit.line)

    def others(self) -> dict[str, str]:
        """Return labels, as Ray takes them, of the machines that may have work."""
        return {LABEL: f"!in({','.join(sorted(self.nodes))})"} if self.nodes else {}

    def slots_at(self, slot: Mapping[str, float]) -> dict[str, int]:
        """Count the slots of each other machine that has any; by its id."""
        return {node: slots for node, slots in slots_at(slot).items() if node not in self.nodes}


class LostMachines:
    """Ends a run whose last machine has gone; Ray would wait for another for ever.

    It waits for `patience` seconds, by default `NO_MACHINE`. `slots` counts each machine's.
    """

    def __init__(
        self,
        slot: Mapping[str, float],
        slots: Callable[[Mapping[str, float]], Mapping[str, int]] = slots_at,
        now: Callable[[], float] = time.monotonic,
        patience: float | None = None,
    ) -> None:
        self._slot, self._slots, self._now = slot, slots, now
        self._patience = NO_MACHINE if patience is None else patience
        self._since: float | None = None

    def check(self, all_wait: bool) -> None:
        """Raise InputError if all actors have waited for long and no machine has a slot."""
        now = self._now()
        if not all_wait:
            self._since = None
        elif self._since is None:
            self._since = now
        elif now - self._since > self._patience:
            if self._slots(self._slot):
                self._since = now
                return
            raise InputError(
                f"--address: no machine has had room for a trial for {self._patience:g} s; "
                "what was done is kept: start one, then --resume"
            )
