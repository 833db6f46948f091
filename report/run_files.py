"""A run as its directory tells it: what was asked, what was tried, what came out."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import yaml

from errors import InputError
from report.final_fits import FinalFit, group_name, read_final_fits
from report.intervals import Interval, paired_difference, t_interval
from report.journal import Journal, Trial, Winner, read_journal


@dataclass(frozen=True)
class Run:
    """The files of a run, and the few questions the report asks of them.

    Attributes:
        partitions, methods: the table's rows and columns, in the experiment's order.
        gain: the method to compare with the baseline, if the experiment names one.
        skipped: how many images could not be used.
    """

    name: str
    partitions: tuple[float, ...]
    methods: tuple[str, ...]
    gain: str | None
    journal: Journal
    fits: dict[str, dict[int, FinalFit]]
    skipped: int

    def groups(self) -> Iterator[tuple[float, str]]:
        """Yield every (partition, method), row by row."""
        return ((partition, method) for partition in self.partitions for method in self.methods)

    def winner(self, partition: float, method: str) -> Winner | None:
        """Return the winner of a group, if the search has come that far."""
        return self.journal.winners.get(group_name(partition, method))

    def final_fits(self, partition: float, method: str) -> list[FinalFit]:
        """Return the final fits of a group, by seed."""
        return list(self.fits.get(group_name(partition, method), {}).values())

    def trials(self, partition: float, method: str) -> list[Trial]:
        """Return the trials of a group."""
        group = group_name(partition, method)
        return [trial for trial in self.journal.trials.values() if trial.group == group]

    def test_accuracy(self, partition: float, method: str) -> Interval | None:
        """Return a group's test accuracy over its final seeds."""
        accuracies = self._test_by_seed(partition, method).values()
        return t_interval(accuracies) if accuracies else None

    def test_difference(self, partition: float, ours: str, theirs: str) -> Interval | None:
        """Return the difference in test accuracy of two methods, paired by seed."""
        return paired_difference(
            self._test_by_seed(partition, ours), self._test_by_seed(partition, theirs)
        )

    @cached_property
    def unfrozen(self) -> frozenset[str]:
        """The methods with a winner that trains a part of the encoder."""
        return frozenset(
            method
            for partition, method in self.groups()
            if (winner := self.winner(partition, method)) and winner.unfrozen
        )

    @cached_property
    def baseline(self) -> str | None:
        """The first method that trains a head alone (zero-shot chooses nothing: not one)."""
        probes = {
            method
            for partition, method in self.groups()
            if (winner := self.winner(partition, method)) and winner.config
        } - self.unfrozen
        return next((method for method in self.methods if method in probes), None)

    @cached_property
    def compared(self) -> str | None:
        """The method whose gain over the baseline is shown: as asked, `llrd`, or the first."""
        if self.gain or "llrd" in self.methods:
            return self.gain or "llrd"
        return next((method for method in self.methods if method in self.unfrozen), None)

    def _test_by_seed(self, partition: float, method: str) -> dict[int, float]:
        return {fit.seed: fit.test_accuracy for fit in self.final_fits(partition, method)}


def read_run(run_dir: Path) -> Run:
    """Read the directory of a run, finished or not.

    Raises:
        InputError: it is not a run's directory, or one of its files cannot be understood.
    """
    for needed in ("experiment.yaml", "events.jsonl"):
        if not (run_dir / needed).is_file():
            raise InputError(f"{run_dir} is not a run's directory: it has no {needed}")
    partitions, methods, gain = _read_experiment(run_dir / "experiment.yaml")
    return Run(
        name=run_dir.resolve().name,
        partitions=partitions,
        methods=methods,
        gain=gain,
        journal=read_journal(run_dir / "events.jsonl"),
        fits=read_final_fits(run_dir / "final_fits"),
        skipped=_count_rows(run_dir / "skipped_images.csv"),
    )


def _read_experiment(path: Path) -> tuple[tuple[float, ...], tuple[str, ...], str | None]:
    """Return the partitions, the methods and the method whose gain is shown."""
    try:
        experiment = yaml.safe_load(path.read_text(encoding="utf-8"))
        partitions, methods = tuple(experiment["data"]["partitions"]), tuple(experiment["methods"])
    except (yaml.YAMLError, KeyError, TypeError) as error:
        raise InputError(f"{path} must hold data.partitions and methods: {error!r}") from error
    gain = (experiment.get("report") or {}).get("gain")
    if gain is not None and gain not in methods:
        raise InputError(f"{path}: report.gain is {gain!r}, not one of {', '.join(methods)}")
    return partitions, methods, gain


def _count_rows(path: Path) -> int:
    if not path.exists():
        return 0
    with path.open(newline="", encoding="utf-8") as file:
        return sum(1 for _ in csv.DictReader(file))
