"""The page that compares several runs by the best method of each row."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from markupsafe import Markup

from metrics import WORDS
from partitions import titled
from report.device_seconds import Cost, row_cost
from report.enough import images_of
from report.html.accuracy import accuracy_point, errors_axis
from report.html.answer import answer
from report.html.charts import Series, chart, images_axis
from report.html.page import render
from report.html.words import largest, percent, span_of
from report.run import Run

TONES = ("accent", "s1", "s3", "s4", "s5", "s6", "s2")


def render_comparison(runs: Sequence[Run]) -> str:
    """Return the page as HTML. Runs that share a name are numbered."""
    names = [run.name for run in runs]
    unique = [
        name if names.count(name) == 1 else f"{name} ({place})"
        for place, name in enumerate(names, start=1)
    ]
    return render(
        "comparison.html",
        title=f"Comparison of {len(runs)} runs",
        measured=_metrics(runs),
        rows=[_row(name, run) for name, run in zip(unique, runs, strict=True)],
        chart=_chart(dict(zip(unique, runs, strict=True))),
    )


def _metrics(runs: Iterable[Run]) -> str:
    """Name what the runs' accuracies are."""
    return " or ".join(dict.fromkeys(WORDS[run.metric] for run in runs))


def _row(name: str, run: Run) -> dict[str, Any]:
    cell = largest(run)
    scores = run.scores(*cell) if cell else None
    interval = scores.interval() if scores else None
    seconds = sum((row_cost(run, partition) for partition in run.partitions), Cost()).spent
    return {
        "name": name,
        "answer": answer(run).text,
        "images": images_of(run, *cell) if cell else 0,
        "at": titled(cell.partition) if cell else "–",
        "method": cell.method if cell else "–",
        "accuracy": percent(interval.mean) if interval else "–",
        "metric": WORDS[run.metric],
        "value": interval.mean if interval else -1.0,
        "span": span_of(interval) if interval else "",
        "seconds": seconds,
    }


def _chart(runs: dict[str, Run]) -> Markup | None:
    """Draw the accuracy of each row's best method, one line per run."""
    lines = []
    for place, (name, run) in enumerate(runs.items()):
        points = [
            accuracy_point(run, partition, method)
            for partition, method in run.best.items()
            if run.scores(partition, method)
        ]
        points = [replace(point, title=f"{name}: {point.title}") for point in points]
        if points:
            points.sort(key=lambda point: point.x)
            lines.append(Series(name, points, TONES[place % len(TONES)]))
    if not lines:
        return None
    across = images_axis([point.x for line in lines for point in line.points])
    label = f"Test {_metrics(runs.values())} of the best method by number of training images"
    return chart(label, across, errors_axis(lines), lines, height=420, dodge=3.0)
