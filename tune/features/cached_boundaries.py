"""Which boundaries to materialise: those that make the trials cheapest, of the sets that fit."""

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
    """The set of boundaries within `budget` from which trials spend least on frozen layers.

    A trial that would start from boundary j starts from the highest chosen boundary i <= j, and
    runs the groups i … j-1 besides, forward, for every sample. So the cost of a set is a sum over
    neighbours in it, and the best set is found from below, boundary by boundary, keeping of all
    partial sets only those that no other beats in both bytes and cost. Exact.

    Args:
        sizes: bytes of all features at each boundary.
        wanted: expected samples that start from each boundary (those with any), over the search.
        forward: operations of each layer group's forward pass on one image.
        budget: bytes. The lowest wanted boundary is chosen whatever it takes, and so is `always`.

    Returns:
        Indices of the boundaries, in order.
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
        return min(whole)[2]  # the least that there is
    return min(fitting, key=lambda state: (state[1], state[0]))[2]


def _cost(start: int, end: float, wanted: Mapping[int, float], forward: Sequence[int]) -> float:
    """What trials of the boundaries from `start` up to `end` spend below their own."""
    return sum(
        samples * sum(forward[start:boundary])
        for boundary, samples in wanted.items()
        if start <= boundary < end
    )


def _undominated(states: list[State]) -> list[State]:
    """Those that no other beats in both bytes and cost."""
    kept: list[State] = []
    for state in sorted(states):
        if not kept or state[1] < kept[-1][1]:
            kept.append(state)
    return kept
