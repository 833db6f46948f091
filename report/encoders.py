"""Several encoders of one experiment: their runs, read as one run with a column for each method."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

import pandas as pd

from errors import InputError
from partitions import Partition
from records import (
    EXPERIMENT,
    TEST,
    Cell,
    EncoderTimed,
    FinalFitResult,
    RunHistory,
    encoders_in,
    recorded,
)
from report.best import best_method, difference
from report.html.words import largest
from report.run import Run, encoder_of, read_run


def read_results(run_dir: Path) -> Run:
    """Read a run's directory, of one encoder or of several.

    Raises:
        InputError: it is no run's directory, or one of its files cannot be understood.
    """
    names = encoders_in(run_dir)
    if not names:
        return read_run(run_dir)
    begun = [name for name in names if (run_dir / name / EXPERIMENT).is_file()]
    if not begun:
        raise InputError(f"{run_dir}: none of its encoders has features yet; --resume goes on")
    run = merged(run_dir, {name: read_run(run_dir / name) for name in begun})
    tried = {method for part in run.parts.values() for method in part.methods}
    asked = recorded(run_dir).get("methods", {})
    waiting = [*(n for n in names if n not in begun), *(m for m in asked if m not in tried)]
    return replace(run, waiting=tuple(waiting))


def merged(run_dir: Path, parts: Mapping[str, Run]) -> Run:
    """Make one run of the runs of several encoders.

    What does not depend on the encoder is taken from the run that has most of it, and doubtful
    labels from that of the best encoder at the row of most images.

    Raises:
        InputError: they were scored on different test images.
    """
    runs = [*parts.values()]
    scored = [run for run in runs if TEST in run.test_labels]
    images = {tuple(run.test_images["key"]) for run in scored}
    if len(images) > 1:
        raise InputError(f"{run_dir}: its encoders were scored on different test images")
    whole = max(runs, key=lambda run: len(run.test_images))
    fits = {}
    for name, run in parts.items():
        for cell, by_seed in run.fits.items():
            there = _of(name, cell)
            fits[there] = {s: replace(fit, method=there.method) for s, fit in by_seed.items()}
    importance = [
        run.importance.assign(method=[f"{name}/{method}" for method in run.importance["method"]])
        for name, run in parts.items()
    ]
    run = replace(
        whole,
        name=run_dir.resolve().name,
        partitions=max((run.partitions for run in runs), key=len),
        methods=tuple(f"{name}/{m}" for name, run in parts.items() for m in run.methods),
        rows={f"{name}/{m}": rows for name, run in parts.items() for m, rows in run.rows.items()},
        gain=None,
        history=_history(parts),
        fits=fits,
        importance=pd.concat(importance, ignore_index=True),
        directory=run_dir,
        parts=parts,
    )
    best = largest(run)
    return replace(run, label_issues=parts[encoder_of(best.method)].label_issues) if best else run


def _of(encoder: str, cell: Cell) -> Cell:
    return Cell(cell.partition, f"{encoder}/{cell.method}")


def _history(parts: Mapping[str, Run]) -> RunHistory:
    """Put the journals of all encoders together."""
    whole = RunHistory()
    for name, run in parts.items():
        one = run.history
        for (cell, number), trial in one.trials.items():
            whole.trials[_of(name, cell), number] = replace(trial, cell=_of(name, cell))
        for cell, winner in one.winners.items():
            whole.winners[_of(name, cell)] = replace(winner, cell=_of(name, cell))
        for (cell, seed), reason in one.failed_fits.items():
            whole.failed_fits[_of(name, cell), seed] = reason
        whole.footnotes += [note for note in one.footnotes if note not in whole.footnotes]
        for stage, seconds in one.stages.items():
            whole.stages[stage] = whole.stages.get(stage, 0.0) + seconds
        whole.versions = whole.versions or one.versions
        whole.seed = one.seed
    return whole


@dataclass(frozen=True)
class Standing:
    """How an encoder's best probe stands at a row, behind the best encoder's, on validation."""

    encoder: str
    accuracy: float
    lag: float
    error: float


def standings(parts: Mapping[str, Run], partition: Partition) -> list[Standing]:
    """Rank encoders at a row by their best method that leaves the encoder as it is.

    Accuracies are means over the final fits with the seeds that all have. Lags are paired by image
    and by seed. Validation alone decides; encoders without a final fit are left out.
    """
    fits = {name: found for name, run in parts.items() if (found := _best_frozen(run, partition))}
    seeds = set.intersection(*(set(by_seed) for by_seed in fits.values())) if fits else set()
    if not seeds:
        return []
    chosen = {name: [by_seed[seed] for seed in sorted(seeds)] for name, by_seed in fits.items()}
    accuracy = {name: fmean(fit.val_accuracy for fit in each) for name, each in chosen.items()}
    ranked = sorted(accuracy, key=lambda name: -accuracy[name])
    leader = chosen[ranked[0]]
    return [Standing(n, accuracy[n], *difference(leader, chosen[n])) for n in ranked]


def promising(standing: list[Standing], most: int) -> list[str]:
    """Choose whose blocks are worth training: the best, and those within a standard error of it."""
    return [one.encoder for one in standing if one.lag <= one.error][:most]


def _best_frozen(run: Run, partition: Partition) -> dict[int, FinalFitResult]:
    candidates = {
        method: (winner, fits)
        for method in run.methods
        if (winner := run.winner(partition, method))
        and winner.kind != "tuned"
        and (fits := run.fits.get(Cell(partition, method)))
    }
    best = best_method(candidates)
    return dict(candidates[best][1]) if best else {}


@dataclass(frozen=True)
class EncoderRow:
    """What an encoder takes to run, and the best that it reaches at the largest row.

    The front is by operations: they are the same on every machine, and known where nothing was
    timed; and by them the best of methods alike is chosen.

    Attributes:
        front: whether no encoder is both cheaper to run and more accurate.
        speed: how fast it was where it ran; None if it was not timed.
    """

    name: str
    parameters: int
    flops: int
    method: str
    accuracy: float
    speed: EncoderTimed | None
    front: bool


def encoder_rows(run: Run) -> list[EncoderRow]:
    """List a run's encoders that have results at its largest row, the cheapest to run first.

    An encoder's method is its best by validation; its accuracy is on the test images.
    """
    rows: list[tuple[str, int, int, str, float, EncoderTimed | None]] = []
    for name, part in run.parts.items():
        cell, size = largest(part), part.history.encoder
        if cell and size and (scores := part.scores(*cell)):
            accuracy = scores.interval().mean
            speed = part.history.speed
            rows.append((name, size.parameters, size.flops, cell.method, accuracy, speed))
    rows.sort(key=lambda row: (row[2], -row[4]))
    return [
        EncoderRow(*row, front=all(row[4] > other[4] for other in rows[:place]))
        for place, row in enumerate(rows)
    ]
