"""Bound the regret of any search that proposes at random and stops trials by their rungs.

    python -m benchmarks.oracle

Each cell's trials are recorded configurations in random order, the default first, as a random
sampler proposes them. A plan says how many of them run to a first point of the curve, how many of
these, the best by prospect, to a second one, and so on. The oracle knows all curves, and takes for
every cell the plan with the least regret on average over orders; any point may be a rung, and is
evaluated. It may split the compute over cells in hindsight, too. So no fixed halving of random
proposals does better, at equal or at any budgets. Proposals that know more than the space may.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.search import SHARES, Table

ORDERS = 500  # random orders of the configurations
STEP = 0.1  # of compute, in full trials
Curves = NDArray[np.float64]  # (configurations, points, [accuracy, loss, prospect])


@dataclass(frozen=True)
class Plan:
    """Points of the curve, and how many trials run to each; the last point is the horizon."""

    points: tuple[int, ...]
    trials: tuple[int, ...]

    def cost(self, shares: NDArray[np.float64]) -> float:
        """Return the compute in full trials; `shares` are the points' shares of the horizon."""
        steps = np.diff(shares[list(self.points)], prepend=0.0)
        return float(np.dot(self.trials, steps))

    def found(self, curves: Curves, orders: NDArray[np.int64]) -> float:
        """Return the best accuracy that the trials show, as a mean over orders.

        Args:
            curves: of one partition.
            orders: shape (orders, trials), the configurations to start.
        """
        accuracy, prospect = np.maximum.accumulate(curves[:, :, 0], axis=1), curves[:, :, 2]
        running, best = orders, np.full(len(orders), -math.inf)
        for point, count in zip(self.points, (*self.trials[1:], 0), strict=True):
            best = np.maximum(best, accuracy[running, point].max(axis=1))
            ranked = np.argsort(-prospect[running, point], axis=1, kind="stable")
            running = np.take_along_axis(running, ranked[:, :count], axis=1)
        return float(best.mean())


def plans(points: int, trials: int) -> Iterator[Plan]:
    """Yield every plan without a rung or with one, and with two those that start all or half."""
    end = points - 1
    for started in range(1, trials + 1):
        yield Plan((end,), (started,))
        for rung in range(end):
            yield from (Plan((rung, end), (started, whole)) for whole in range(1, started))
    for started in (trials // 2, trials):
        for rungs in combinations(range(end), 2):
            yield from (
                Plan((*rungs, end), (started, middle, whole))
                for middle in range(2, started)
                for whole in range(1, middle)
            )


def least_regrets(curves: Curves, shares: NDArray[np.float64], trials: int) -> Curves:
    """Return the least regret of one cell for 0, 1, 2 … steps of compute, up to whole trials."""
    rng = np.random.default_rng(0)
    others = np.arange(1, len(curves))
    orders = np.array([[0, *rng.permutation(others)] for _ in range(ORDERS)])
    least = np.full(round(trials / STEP) + 1, math.inf)
    best = curves[:, :, 0].max()
    for plan in plans(curves.shape[1], trials):
        at = math.ceil(plan.cost(shares) / STEP - 1e-9)
        regret = best - plan.found(curves, orders[:, : plan.trials[0]])
        least[at] = min(least[at], regret)
    return np.minimum.accumulate(least)


def shared(cells: list[Curves]) -> Curves:
    """Return the least mean regret of several cells for 0, 1, 2 … steps of compute in all."""
    total = np.zeros(1)
    for least in cells:
        sums = total[:, None] + least[None, :]
        # Of all ways to split each amount in two, the best.
        steps = np.add.outer(np.arange(len(total)), np.arange(len(least)))
        joined = np.full(len(total) + len(least) - 1, math.inf)
        np.minimum.at(joined, steps, sums)
        total = joined
    return total / len(cells)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tables", type=Path, nargs="*", help="default: all of benchmarks/curves")
    parser.add_argument("--trials", type=int, default=16, help="trials of each cell")
    arguments = parser.parse_args()
    print(f"| least regret at | {' | '.join(f'{share:.0%}' for share in SHARES)} |")
    print("|---" * (len(SHARES) + 1) + "|")
    for path in arguments.tables or sorted((Path(__file__).parent / "curves").glob("*.json")):
        table = Table(path)
        shares = np.array(table.content["points"]) / table.horizon
        cells = [least_regrets(c, shares, arguments.trials) for c in table.curves.values()]
        budgets = [round(share * arguments.trials / STEP) for share in SHARES]
        equal, split = np.mean(cells, axis=0), shared(cells)
        for name, values in (
            ("equal cells", [equal[budget] for budget in budgets]),
            ("any split", [split[budget * len(cells)] for budget in budgets]),
        ):
            print(f"| {table.name}, {name} | {' | '.join(f'{100 * x:.2f}' for x in values)} |")


if __name__ == "__main__":
    main()
