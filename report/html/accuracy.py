"""Accuracy and gains against the number of training images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from partitions import Partition, titled
from records import Cell
from report.enough import images_of
from report.html.charts import Axis, Point, Series, chart, images_axis, linear
from report.html.words import percent, span_of
from report.intervals import Interval
from report.run import Run

LABEL_GAP = 0.055  # of the axis: between two of its ticks
ERRORS = (0.9, 0.8, 0.7, 0.5, 0.3, 0.2, 0.1, 0.05, 0.03, 0.02, 0.01, 0.005, 0.002, 0.001)


def accuracy_charts(run: Run) -> dict[str, Any] | None:
    """Draw accuracies, and gains over the probe; None without a result."""
    intervals = _intervals(run)
    if not intervals:
        return None
    counts = [images_of(run, p, m) for m, row in intervals.items() for p in row]
    across = images_axis(counts)
    tones = tones_of(run)
    lines = [
        Series(
            method,
            sorted((accuracy_point(run, p, method) for p in row), key=lambda point: point.x),
            tones[method],
        )
        for method, row in intervals.items()
    ]
    label = f"{run.name}: test accuracy by number of training images"
    return {
        "accuracy": chart(label, across, errors_axis(lines), lines, height=400, dodge=3.0),
        "gains": _gains(run, across, tones),
        "baseline": run.baseline,
    }


def tones_of(run: Run) -> dict[str, str]:
    """Give the method whose gain is shown the accent, and the others tones of their own."""
    accent = run.compared or next(iter(run.best.values()), None)
    others = [method for method in run.methods if method != accent]
    tones = {method: f"s{place % 6 + 1}" for place, method in enumerate(others)}
    return tones | ({accent: "accent"} if accent else {})


def _intervals(run: Run) -> dict[str, dict[Partition, Interval]]:
    found = {
        method: {p: s.interval() for p in run.partitions if (s := run.scores(p, method))}
        for method in run.methods
    }
    return {method: row for method, row in found.items() if row}


def accuracy_point(run: Run, partition: Partition, method: str) -> Point:
    """Place a cell by its images and its error. An error of none is drawn as half an image.

    Raises:
        ValueError: the cell has no final fits.
    """
    scores = run.scores(partition, method)
    if scores is None:
        raise ValueError(f"{Cell(partition, method)} has no final fits")
    interval, images = scores.interval(), images_of(run, partition, method)
    floor = 0.5 / max(run.final_fits(partition, method)[0].n_test, 1)
    error, half = 1 - interval.mean, interval.half_width or 0.0
    return Point(
        images,
        max(error, floor),
        max(error - half, floor),
        min(error + half, 1.0),
        f"{method}, {titled(partition)} ({images:,} images): "
        f"{percent(interval.mean)} ({span_of(interval)})",
    )


def errors_axis(lines: Sequence[Series]) -> Axis:
    """Make the axis of accuracies: errors on a logarithmic scale, the least at the top."""
    worst = max(point.y for line in lines for point in line.points)
    least = min(point.low or point.y for line in lines for point in line.points)
    low, high = min(worst * 1.15, 1.0), least * 0.85
    axis, kept = Axis(low, high, [], log=True), list[float]()
    for error in ERRORS:
        apart = not kept or axis.place(error) - axis.place(kept[-1]) > LABEL_GAP
        if high <= error <= low and apart:
            kept.append(error)
    return replace(axis, ticks=[(error, f"{100 * (1 - error):g}%") for error in kept])


def _gains(run: Run, across: Axis, tones: dict[str, str]) -> Any:
    """Draw each method's gain over the probe, with its interval."""
    if run.baseline is None:
        return None
    lines = []
    for method in run.methods:
        if method in (run.baseline, run.zero_shot):
            continue
        points = []
        for partition in run.partitions:
            gain = run.difference(partition, method, run.baseline)
            if gain is None:
                continue
            half = gain.half_width or 0.0
            title = f"{method}, {titled(partition)}: {gain.points('+')} points over {run.baseline}"
            ends = 100 * (gain.mean - half), 100 * (gain.mean + half)
            images = images_of(run, partition, method)
            points.append(Point(images, 100 * gain.mean, *ends, title))
        if points:
            lines.append(Series(method, sorted(points, key=lambda p: p.x), tones[method]))
    if not lines:
        return None
    reach = [end for line in lines for p in line.points for end in (p.low or 0.0, p.high or 0.0)]
    down = linear(min(*reach, 0.0) - 0.5, max(*reach, 0.0) + 0.5, "", most=5)
    zero = Series(
        run.baseline, [Point(across.low, 0.0), Point(across.high, 0.0)], "zero", marks=False
    )
    label = f"Gains over {run.baseline} in points, by number of training images"
    return chart(label, across, down, [zero, *lines], height=270, dodge=3.0)
