"""Measure the search's regret against compute, played on recorded learning curves.

    python -m benchmarks.search --repeats 200

It plays the real search on the tables of `benchmarks/curves/`, which `benchmarks/record_curves.py`
wrote from real fits. Each proposal of a sampler becomes the nearest recorded configuration that its
cell has not tried. It takes about half an hour on two cores; docs/search.md has the results.

All strategies share the first trial, which is the space's default, and the probe that heads start
from, whose cost is not counted. Compute is counted in full trials: the samples trained at all
partitions, divided by the horizon and by the number of partitions.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from models.results import score
from partitions import Partition, named
from records import JournalWriter, TrialReport
from search_spaces import Experiment, Params, parse_space
from search_spaces.schema import MOST
from tune.search.cell_search import CellSearch
from tune.search.search import Proposal, Search
from tune.search.simulation import Flight, Player, a_report

STRATEGIES: dict[str, dict[str, Any]] = {
    "random": {"scheduler": "none", "sampler": "random", "transfer": 0},
    "TPE": {"scheduler": "none", "sampler": "tpe", "transfer": 0},
    "Hyperband + random": {
        "scheduler": "hyperband",
        "sampler": "random",
        "transfer": 0,
        "hyperband": {"epochs": 0},
    },
    "ASHA + random": {"sampler": "random", "transfer": 0, "asha": {"epochs": 0}},
    "ASHA + TPE": {"transfer": 0, "asha": {"epochs": 0}},
    "ours": {},
    "ours, two transferred": {"transfer": 2},
    "ours, random sampler": {"sampler": "random"},
}
"""The strategies to compare: changes of the default settings of `search`."""

REFERENCE = "random"
RESAMPLES = 1000
SHARES = (1 / 10, 1 / 5, 1 / 2, 1.0)
"""Shares of the reference's compute at which regret is printed."""

GRID = np.linspace(0, 1, 501)
"""Shares of the reference's compute at which every search is evaluated."""


class Table:
    """Recorded learning curves of one method on one data set, as `record_curves.py` wrote them.

    Attributes:
        content: all that the file holds.
        images: number of training images of each partition.
        horizon: samples of a full trial.
        best: best accuracy of any recorded configuration, as a mean over partitions.
    """

    def __init__(self, path: Path) -> None:
        self.content = json.loads(path.read_text())
        self.name: str = self.content["name"]
        self.configs: list[Params] = self.content["configs"]
        self.partitions: list[Partition] = [
            float(partition) for partition in self.content["partitions"]
        ]
        self.images: dict[Partition, int] = {
            float(p): int(n) for p, n in self.content["images"].items()
        }
        self.horizon: int = self.content["horizon"]
        self.space = parse_space(self.content["space"], self.content["default"])
        # Of each partition: (configurations, points, [accuracy, loss, prospect]).
        self.curves = {
            p: np.array(curves[: len(self.configs)]) for p, curves in self.content["curves"].items()
        }
        self._places = np.array([self._place(config) for config in self.configs])
        self.best = float(np.mean([curves[:, :, 0].max() for curves in self.curves.values()]))

    def nearest(self, config: Params, tried: list[Params]) -> Params:
        """Return the recorded configuration nearest to `config`, one not tried if any is left.

        All ranges have length 1, and two different choices have distance 1.
        """
        distances = ((self._places - self._place(config)) ** 2).sum(1)
        used = [self.configs.index(other) for other in tried]
        if len(set(used)) < len(distances):
            distances[used] = math.inf
        return dict(self.configs[int(distances.argmin())])

    def _place(self, config: Mapping[str, Any]) -> NDArray[np.float64]:
        place: list[float] = []
        for name, parameter in self.space.searched.items():
            value = config[name]
            match parameter.distribution:
                case CategoricalDistribution(choices=choices):
                    place += [math.sqrt(0.5) * (value == choice) for choice in choices]
                case (
                    FloatDistribution(low=low, high=high, log=log)
                    | IntDistribution(low=low, high=high, log=log)
                ):
                    single = value[0] if isinstance(value, list | tuple) else value
                    x, low, high = (math.log(x) if log else x for x in (single, low, high))
                    place.append((x - low) / (high - low))
        return np.array(place)

    def at(
        self, partition: Partition, config: Params, milestone: int
    ) -> tuple[float, float, float]:
        """Return validation accuracy, score and prospect of a recorded configuration.

        Values between two points are interpolated.
        """
        curve = self.curves[named(partition)][self.configs.index(config)]
        points = self.content["points"]
        accuracy, loss, prospect = (float(np.interp(milestone, points, row)) for row in curve.T)
        return accuracy, score(accuracy, loss, self.content["n_val"]), prospect

    def experiment(self, trials: int, seed: int, settings: Mapping[str, Any]) -> Experiment:
        """Return an experiment of the method, and of a probe that it waits for."""
        method = {"space": self.content["space"], "default": self.content["default"]}
        probe = {"space": {"blocks": "none"}, "trials": 1, "samples": 1}
        search = {"trials": trials, "samples": self.horizon, "epochs": MOST, **settings}
        return Experiment.model_validate(
            {
                "name": self.name,
                "seed": seed,
                "data": {"source": "digits", "partitions": self.partitions},
                "search": search,
                "methods": {"probe": probe, "method": method},
            }
        )


read_table = cache(Table)  # once in a process


class Race(Player):
    """Plays one search on several slots; a trial takes as long as it trains samples."""

    def __init__(self, table: Table, experiment: Experiment, slots: int) -> None:
        journal = JournalWriter(Path(os.devnull))
        search = Search(experiment, journal, table.images, self._recorded)
        super().__init__(search, self._evaluated, self._first, slots)
        self._table = table
        self._now = 0
        self._due: dict[int, int] = {}  # flight to when it reports
        self._spent = 0
        self._best = dict.fromkeys(table.partitions, (-math.inf, 0.0))
        self.course: list[tuple[float, float]] = []  # (compute, mean best accuracy)

    def _recorded(self, state: CellSearch, number: int) -> Params:
        """Return the recorded configuration nearest to the sampler's proposal."""
        sampled = state.sampled(number)
        if state.cell.method == "probe":
            return sampled
        return self._table.nearest(sampled, [t.config for t in state.trials.values()])

    def _first(self, flying: list[Flight]) -> Flight:
        for flight in flying:
            self._due.setdefault(id(flight), self._now + self._cost(flight))
        flight = min(flying, key=lambda f: self._due[id(f)])
        self._now = self._due.pop(id(flight))
        self._spent += self._cost(flight)
        return flight

    def _cost(self, flight: Flight) -> int:
        """Return the samples to the next milestone; a probe is free."""
        cell, number = flight.proposal.cell, flight.proposal.number
        if cell.method == "probe":
            return 0
        return flight.ahead[0] - self.search.cells[cell].trials[number].samples

    def _evaluated(self, proposal: Proposal, milestone: int) -> TrialReport:
        table, partition = self._table, proposal.cell.partition
        accuracy = rank = prospect = 0.0
        if proposal.cell.method != "probe":
            accuracy, rank, prospect = table.at(partition, proposal.config, milestone)
            self._best[partition] = max(self._best[partition], (rank, accuracy))
            if all(found > -math.inf for found, _ in self._best.values()):
                mean = float(np.mean([accuracy for _, accuracy in self._best.values()]))
                full = table.horizon * len(table.partitions)
                self.course.append((self._spent / full, mean))
        return a_report(milestone, rank, val_accuracy=accuracy, prospect=prospect)


def play(
    path: Path, strategy: str, trials: int, slots: int, seed: int
) -> tuple[NDArray[np.float64], float]:
    """Return the best accuracy so far at every point of `GRID`, and the compute spent in all."""
    table = read_table(path)
    race = Race(table, table.experiment(trials, seed, STRATEGIES[strategy]), slots)
    race.run()
    assert race.search.finished
    compute, accuracy = np.array(race.course).T
    index = np.searchsorted(compute, GRID * trials, side="right") - 1
    return np.where(index >= 0, accuracy[np.maximum(index, 0)], np.nan), float(compute[-1])


def interval(values: NDArray[np.float64]) -> str:
    """Format a mean in percent, and half its 95% interval over repeats."""
    half = 1.96 * values.std(ddof=1) / math.sqrt(len(values))
    return f"{100 * values.mean():.2f} ± {100 * half:.2f}"


def reached(courses: NDArray[np.float64], reference: NDArray[np.float64]) -> float:
    """Return the share of the compute at which the mean course reaches the reference's end.

    It is infinite if the mean over repeats never gets there.
    """
    goal = reference[:, -1].mean()
    known = ~np.isnan(courses).any(0)  # a course begins at the first report
    there = known & (courses.mean(0) >= goal - 1e-12)
    return float(GRID[there.argmax()]) if there.any() else math.inf


def reached_interval(courses: NDArray[np.float64], reference: NDArray[np.float64]) -> str:
    """Format `reached` with its 95% bootstrap interval over the repeats of both."""
    rng = np.random.default_rng(0)
    draws = [
        reached(
            courses[rng.integers(len(courses), size=len(courses))],
            reference[rng.integers(len(reference), size=len(reference))],
        )
        for _ in range(RESAMPLES)
    ]
    low, high = np.quantile(draws, [0.025, 0.975], method="nearest")
    shares = (reached(courses, reference), low, high)
    share, *ends = ("never" if math.isinf(x) else f"{x:.1%}" for x in shares)
    return f"{share} ({' to '.join(ends)})"


def compare(
    path: Path, trials: int, slots: int, repeats: int, processes: int, first_seed: int
) -> str:
    """Compare the strategies on one data set, as a table in Markdown."""
    table = Table(path)
    shares = [int(np.abs(GRID - share).argmin()) for share in SHARES]
    head = " | ".join(f"regret at {share:.0%}" for share in SHARES)
    lines = [
        f"{table.name}: {trials} trials, {len(table.partitions)} partitions, "
        f"{len(table.configs)} recorded configurations, {repeats} repeats",
        "",
        f"| strategy | {head} | compute spent | reaches random's best at |",
        "|---" * (len(SHARES) + 3) + "|",
    ]
    reference = np.empty(0)
    for strategy in STRATEGIES:
        seeds = range(first_seed, first_seed + repeats)
        repeated = [(path, strategy, trials, slots, seed) for seed in seeds]
        with multiprocessing.get_context("spawn").Pool(processes) as pool:
            played = pool.starmap(play, repeated, chunksize=10)
        courses, spent = (np.array(each) for each in zip(*played, strict=True))
        if strategy == REFERENCE:
            reference = courses
        regrets = " | ".join(interval(table.best - courses[:, share]) for share in shares)
        when = reached_interval(courses, reference)
        lines.append(f"| {strategy} | {regrets} | {spent.mean() / trials:.0%} | {when} |")
        print(lines[-1], file=sys.stderr, flush=True)
    return "\n".join(lines)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tables", type=Path, nargs="*", help="default: all of benchmarks/curves")
    parser.add_argument("--trials", type=int, default=16, help="trials of each cell")
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--first-seed", type=int, default=1000, help="seed of the first repeat")
    arguments = parser.parse_args()
    tables = arguments.tables or sorted((Path(__file__).parent / "curves").glob("*.json"))
    settings = {key: value for key, value in vars(arguments).items() if key != "tables"}
    print("\n\n".join(compare(path, **settings) for path in tables))


if __name__ == "__main__":
    main()
