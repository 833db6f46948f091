"""A run as read from its directory: the experiment, the trials and the results."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import inf
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from errors import InputError
from metrics import Metric, image_values
from partitions import Partition, Shots, named
from records import (
    AUTO,
    CLASSES,
    DUPLICATES,
    EXPERIMENT,
    IMPORTANCE,
    JOURNAL,
    LABEL_ISSUES,
    SKIPPED,
    TEST,
    TEST_IMAGES,
    Cell,
    FinalFitResult,
    Kind,
    RunHistory,
    TrialHistory,
    Winner,
    planned_seeds,
    read_final_fits,
    read_journal,
    read_test_images,
    weights_path,
)
from report.best import best_methods
from report.intervals import Interval
from report.scores import Scores
from yaml_files import read_yaml, text_of

ROUNDING = 1e-6  # in an accuracy, of either way to compute it


@dataclass(frozen=True)
class Run:
    """The contents of a run's directory, with the questions that the report asks of it.

    Attributes:
        partitions, methods: the table's rows and columns, in the experiment's order.
        rows: the only rows of a method that is searched at some, by their names.
        gain: the method to compare with the baseline, if the experiment names one.
        metric: what accuracies are.
        seeds: final fits that the experiment asks for; None if it is not known.
        test_labels, test_groups: as `read_test_images` returns them.
        test_images, importance, label_issues, classes, duplicates, skipped: tables, empty where the
            run has none.
        directory: where the run lies.
        parts: the runs of the encoders, where an experiment has several (`report.encoders`); each
            of their methods is a column `ENCODER/METHOD` here.
        waiting: the encoders, and the methods of all of them, that have not begun.
    """

    name: str
    partitions: tuple[Partition, ...]
    methods: tuple[str, ...]
    rows: Mapping[str, Sequence[str]]
    gain: str | None
    metric: Metric
    seeds: int | str | None
    history: RunHistory
    fits: dict[Cell, dict[int, FinalFitResult]]
    test_labels: Mapping[str, NDArray[np.int64]]
    test_groups: Mapping[str, NDArray[np.int64]]
    test_images: pd.DataFrame
    importance: pd.DataFrame
    label_issues: pd.DataFrame
    classes: pd.DataFrame
    duplicates: pd.DataFrame
    skipped: pd.DataFrame
    directory: Path
    parts: Mapping[str, Run] = field(default_factory=dict)
    waiting: tuple[str, ...] = ()

    @property
    def sought_duplicates(self) -> bool:
        """Whether its images were compared with one another."""
        if self.parts:
            return all(part.sought_duplicates for part in self.parts.values())
        return (self.directory / DUPLICATES.file).exists()

    def cells(self) -> Iterator[Cell]:
        """Yield every cell, row by row."""
        for partition in self.partitions:
            for method in self.methods:
                if (rows := self.rows.get(method)) is None or named(partition) in rows:
                    yield Cell(partition, method)

    def winner(self, partition: Partition, method: str) -> Winner | None:
        """Return the winner of a cell, once its search is over."""
        return self.history.winners.get(Cell(partition, method))

    def final_fits(self, partition: Partition, method: str) -> list[FinalFitResult]:
        """Return the final fits of a cell, by seed."""
        return list(self.fits.get(Cell(partition, method), {}).values())

    def weights(self, cell: Cell, seed: int) -> Path:
        """Return where the weights of a final fit are kept, if they are."""
        if not self.parts:
            return weights_path(self.directory, cell, seed)
        encoder, method = cell.method.split("/")
        return self.parts[encoder].weights(Cell(cell.partition, method), seed)

    def failures(self, partition: Partition, method: str) -> list[str]:
        """Return why final fits of a cell failed, for the planned seeds without a result."""
        cell = Cell(partition, method)
        made, planned = self.fits.get(cell, {}), self.planned(partition)
        return [
            reason
            for (of, seed), reason in self.history.failed_fits.items()
            if of == cell and seed not in made and (planned is None or seed < planned)
        ]

    def planned(self, partition: Partition) -> int | None:
        """Return how many final fits each winner of a partition gets; None if it is not known."""
        made = [fit for method in self.methods for fit in self.final_fits(partition, method)]
        if self.seeds is None or (self.seeds == AUTO and not made):
            return None
        drawn = made[0].drawn or made[0].n_train if made else 0
        return planned_seeds(self.seeds, partition, drawn)

    def trials(self, partition: Partition, method: str) -> list[TrialHistory]:
        """Return the trials of a cell."""
        return self.history.by_cell.get(Cell(partition, method), [])

    def is_default(self, partition: Partition, method: str, other: str) -> bool:
        """Whether all that `other` tried at a partition is the default that `method` began with."""
        searched, only = self.trials(partition, method), self.trials(partition, other)
        return len(searched) > 1 and [trial.config for trial in only] == [searched[0].config]

    def scores(self, partition: Partition, method: str, test_set: str = TEST) -> Scores | None:
        """Return the scores of a cell's final fits on a test set; None if it has none."""
        return self._scores.get((Cell(partition, method), test_set))

    def difference(
        self, partition: Partition, ours: str, theirs: str, test_set: str = TEST
    ) -> Interval | None:
        """Return the difference in accuracy of two methods, paired by seed and by image."""
        a, b = (self.scores(partition, method, test_set) for method in (ours, theirs))
        return a.minus(b) if a and b else None

    @cached_property
    def extra_tests(self) -> tuple[str, ...]:
        """The further test sets that final fits were scored on."""
        fits = (fit for cell in self.cells() for fit in self.final_fits(*cell))
        return tuple(dict.fromkeys(name for fit in fits for name in fit.tests if name != TEST))

    @cached_property
    def best(self) -> dict[Partition, str]:
        """The method that validation chooses for each partition that has final fits."""
        winners = {cell: winner for cell in self.cells() if (winner := self.winner(*cell))}
        return best_methods(winners, self.fits, self.serving)

    @cached_property
    def serving(self) -> dict[str, float]:
        """The operations of each method's encoder on one image, where there are several."""
        sizes = {name: part.history.encoder for name, part in self.parts.items()}
        flops = {name: float(size.flops) for name, size in sizes.items() if size}
        return {method: flops.get(encoder_of(method), inf) for method in self.methods if flops}

    @cached_property
    def zero_shot(self) -> str | None:
        """The first method that trains nothing, if there is one."""
        untrained = self._methods_of("zero_shot") - self._methods_of("probe", "tuned")
        return next((method for method in self.methods if method in untrained), None)

    @cached_property
    def baseline(self) -> str | None:
        """The first method that trains a head alone; zero-shot trains nothing."""
        probes = self._methods_of("probe") - self._methods_of("tuned")
        return next((method for method in self.methods if method in probes), None)

    @cached_property
    def compared(self) -> str | None:
        """The method whose gain is shown: the experiment's choice, else `llrd`, else the first."""
        if self.gain or "llrd" in self.methods:
            return self.gain or "llrd"
        tuned = self._methods_of("tuned")
        return next((method for method in self.methods if method in tuned), None)

    @cached_property
    def _scores(self) -> dict[tuple[Cell, str], Scores]:
        return {
            (cell, test_set): scores
            for test_set in (TEST, *self.extra_tests)
            for cell in self.cells()
            if (scores := self._score(self.final_fits(*cell), test_set))
        }

    def _score(self, fits: Iterable[FinalFitResult], test_set: str) -> Scores | None:
        """Compare the predictions of a cell's fits with the labels, if these are known."""
        accuracies, correct = {}, {}
        labels = self.test_labels.get(test_set)
        for fit in fits:
            if (score := fit.tests.get(test_set)) is None:
                continue
            accuracies[fit.seed] = score.accuracy
            if labels is None:
                continue
            predictions = np.array(score.predictions)
            if predictions.shape != labels.shape:
                raise InputError(
                    f"{fit.cell}, seed {fit.seed}: {predictions.size} predictions, but "
                    f"{TEST_IMAGES.file} lists {labels.size} images of {test_set}"
                )
            logs = score.log_likelihoods
            if self.metric == "log_loss" and len(logs) != labels.size:
                raise InputError(f"{fit.cell}, seed {fit.seed}: has no likelihoods of {test_set}")
            correct[fit.seed] = image_values(predictions, labels, self.metric, logs)
            if abs(correct[fit.seed].mean() - score.accuracy) > ROUNDING:
                raise InputError(
                    f"{fit.cell}, seed {fit.seed}: accuracy {score.accuracy:.6f} on {test_set}, "
                    f"but {correct[fit.seed].mean():.6f} by the labels in {TEST_IMAGES.file}; put "
                    "back what was changed, or remove that list: --resume makes it again"
                )
        groups = self.test_groups.get(test_set)
        return Scores(accuracies, correct, groups) if accuracies else None

    def _methods_of(self, *kinds: Kind) -> frozenset[str]:
        """Return the methods with a winner of one of these kinds."""
        return frozenset(
            cell.method
            for cell in self.cells()
            if (winner := self.winner(*cell)) and winner.kind in kinds
        )


def encoder_of(method: str) -> str:
    """Return the encoder of a column of several encoders' run."""
    return method.partition("/")[0]


def read_run(run_dir: Path) -> Run:
    """Read the directory of a run, finished or not.

    Raises:
        InputError: it is not a run's directory, or one of its files cannot be understood.
    """
    if not (run_dir / JOURNAL).is_file():
        raise InputError(f"{run_dir} is not a run's directory: it has no {JOURNAL}")
    if not (run_dir / EXPERIMENT).is_file():
        raise InputError(f"{run_dir} has no {EXPERIMENT}; a run writes it after its features")
    of = _read_experiment(run_dir / EXPERIMENT)
    test_labels, test_groups = read_test_images(run_dir)
    events, fits = read_journal(run_dir / JOURNAL), read_final_fits(run_dir)
    history = RunHistory.of(events)
    if lost := [cell for cell in fits if cell not in history.winners]:
        raise InputError(
            f"{run_dir / JOURNAL} lacks the winner of {lost[0]}, which has final fits; "
            "put back the whole journal"
        )
    return Run(
        name=run_dir.resolve().name,
        partitions=of.partitions,
        methods=tuple(of.rows),
        rows={method: rows for method, rows in of.rows.items() if rows is not None},
        gain=of.gain,
        metric=of.metric,
        seeds=of.seeds,
        history=history,
        fits=fits,
        test_labels=test_labels,
        test_groups=test_groups,
        test_images=TEST_IMAGES.read(run_dir),
        importance=IMPORTANCE.read(run_dir),
        label_issues=LABEL_ISSUES.read(run_dir),
        classes=CLASSES.read(run_dir),
        duplicates=DUPLICATES.read(run_dir),
        skipped=SKIPPED.read(run_dir),
        directory=run_dir,
    )


class _Asked(NamedTuple):
    """What an experiment asks for: see `Run`; `rows` has every method."""

    partitions: tuple[Partition, ...]
    rows: dict[str, Sequence[str] | None]
    gain: str | None
    metric: Metric
    seeds: int | str | None


def _read_experiment(path: Path) -> _Asked:
    try:
        experiment = read_yaml(text_of(path), str(path))
        _ = experiment["identity"]  # comes last: the file is whole
        data = experiment["data"]
        rows = {name: method.get("rows") for name, method in experiment["methods"].items()}
        partitions = (*map(Shots, data.get("shots", ())), *data["partitions"])
        gain = (experiment.get("report") or {}).get("gain")
        seeds = (experiment.get("final") or {}).get("seeds")
        metric = experiment.get("metric", "accuracy")
    except InputError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, OSError):
        raise InputError(
            f"{path} is damaged, or of no run: it must hold data.partitions, methods and identity; "
            "put it back"
        ) from None
    if gain is not None and gain not in rows:
        raise InputError(f"{path}: report.gain is {gain!r}, not one of {', '.join(rows)}")
    return _Asked(partitions, rows, gain, metric, seeds)
