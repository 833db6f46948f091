"""The choice of boundaries to cache: the set that makes trials cheapest, of those that fit."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

State = tuple[int, float, tuple[int, ...]]  # bytes, extra operations, what was chosen


def choose_boundaries(
    sizes: Sequence[int],
    wanted: Mapping[int, float],
    forward: Sequence[int],
    budget: float,
    always: frozenset[int] = frozenset(),
) -> tuple[int, ...]:
    """Choose the boundaries within `budget` from which trials spend least on frozen layers.

    A trial whose own boundary is j starts from the highest chosen boundary i <= j, and runs the
    frozen groups i … j-1 forward for every sample. So the cost of a set is a sum over neighbours in
    it. Dynamic programming finds the best set exactly: it goes up boundary by boundary and drops
    every partial set that another one beats in both bytes and cost.

    Args:
        sizes: bytes of all features at each boundary.
        wanted: expected samples of the search by the boundary they would start from.
        forward: operations of each layer group's forward pass on one image.
        budget: bytes for the features of the set.
        always: boundaries that are chosen whatever they take, like the lowest wanted one.
    """
    candidates = sorted({*wanted, *always})
    lowest = candidates[0]
    # Partial sets whose highest boundary is `last`, with the cost of everything below it.
    fronts: dict[int, list[State]] = {lowest: [(sizes[lowest], 0.0, (lowest,))]}
    for boundary in candidates[1:]:
        reached = []
        for last, front in fronts.items():
            if any(last < passed < boundary for passed in always):
                continue
            between = _cost(last, boundary, wanted, forward)
            reached += [
                (taken + sizes[boundary], cost + between, (*chosen, boundary))
                for taken, cost, chosen in front
            ]
        fronts[boundary] = _undominated(reached)
    whole = [
        (taken, cost + _cost(last, math.inf, wanted, forward), chosen)
        for last, front in fronts.items()
        for taken, cost, chosen in front
        if always <= {*chosen}
    ]
    fitting = [state for state in whole if state[0] <= budget]
    if not fitting:
        return min(whole)[2]  # the smallest
    return min(fitting, key=lambda state: (state[1], state[0]))[2]


def _cost(start: int, end: float, wanted: Mapping[int, float], forward: Sequence[int]) -> float:
    """Sum the operations that trials from `start` up to `end` spend below their own boundary."""
    return sum(
        samples * sum(forward[start:boundary])
        for boundary, samples in wanted.items()
        if start <= boundary < end
    )


def _undominated(states: list[State]) -> list[State]:
    """List the states that no other beats in both bytes and cost."""
    kept: list[State] = []
    for state in sorted(states):
        if not kept or state[1] < kept[-1][1]:
            kept.append(state)
    return kept
