"""What was searched, what mattered, and what the search brought."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
from markupsafe import Markup

from partitions import titled
from records import LOST, TrialHistory
from report.device_seconds import Cost, cost_of
from report.html.accuracy import errors_axis
from report.html.charts import Axis, Point, Series, bars, chart, linear
from report.html.words import percent
from report.intervals import t_interval
from report.run import Run
from report.winners import LEAST

LEAST_ERROR = 1e-3  # that is drawn
MOST_SETTINGS = 8  # of a method
WIDTH = 440.0
MOST_LINES = 6  # of rows in the chart of the best so far
TONES = ("s2", "s5", "s6", "s4", "s3", "accent")


def search(run: Run) -> dict[str, Any] | None:
    """Return what mattered, a map of the trials, and the best so far; None without trials."""
    if not run.history.trials:
        return None
    method = run.compared
    return {
        "trials": len(run.history.trials),
        "stopped": sum(trial.status == "stopped" for trial in run.history.trials.values()),
        "failed": sum(trial.status in LOST for trial in run.history.trials.values()),
        "method": method,
        "importance": _importance(run),
        "map": _map(run, method) if method else None,
        "progress": _progress(run, method) if method else None,
        "methods": [row for each in run.methods if (row := _method(run, each))],
    }


def _importance(run: Run) -> list[tuple[str, int, Markup]]:
    """Draw the importances of each method's settings over the trials of all rows."""
    pooled = run.importance[run.importance["partition"] == "all"]
    found = []
    for method, table in pooled.groupby("method", sort=False):
        shown = table[table["importance"] >= LEAST].head(MOST_SETTINGS)
        rows = [
            (str(name), float(share), percent(share, 0))
            for name, share in zip(shown["parameter"], shown["importance"], strict=True)
        ]
        if len(rows) > 1:
            picture = bars(f"Importance of the settings of {method}", rows, width=WIDTH)
            found.append((str(method), int(table["trials"].max()), picture))
    return found


def depth(trial: TrialHistory) -> int | None:
    """Return how many blocks a trial trained; None if that is not a number."""
    blocks = str(trial.config.get("blocks", "none"))
    if span := re.fullmatch(r"(\d+)(?:-(\d+))?", blocks):
        first, last = int(span[1]), int(span[2] or span[1])
        return abs(first - last) + 1
    return 0 if blocks == "final" else None


def _map(run: Run, method: str) -> Markup | None:
    """Place a method's trials by learning rate and depth, in three tones by what they fell short.

    A trial falls short of the best of its row, on validation.
    """
    tones: dict[str, list[Point]] = {"accent": [], "s1": [], "muted": []}
    for partition in run.partitions:
        trials = [t for t in run.trials(partition, method) if np.isfinite(t.val_accuracy)]
        best = max((trial.val_accuracy for trial in trials), default=0.0)
        for trial in trials:
            rate, deep = trial.config.get("lr"), depth(trial)
            if deep is None or not isinstance(rate, int | float) or rate <= 0:
                continue
            short = best - trial.val_accuracy
            tone = "accent" if short <= 0.005 else "s1" if short <= 0.03 else "muted"
            title = (
                f"{titled(partition)}, trial {trial.number}: {percent(trial.val_accuracy)} on "
                f"validation, rate {rate:.2g}, {deep} blocks, {trial.status}"
            )
            tones[tone].append(Point(rate, deep + _jitter(trial.number), title=title))
    points = [point for each in tones.values() for point in each]
    if len(points) < 3 or len({point.x for point in points}) < 3:
        return None
    low, high = min(p.x for p in points) / 1.3, max(p.x for p in points) * 1.3
    decades = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    ticks = [
        (each * 10.0**power, f"{each}e{power}")
        for power in decades
        for each in (1, 3)
        if low <= each * 10.0**power <= high
    ]
    across = Axis(low, high, ticks, "learning rate", log=True)
    whole = sorted({round(point.y) for point in points})
    down = Axis(
        -0.6, len(whole) - 0.4, [(i, str(n) if n else "final") for i, n in enumerate(whole)]
    )
    tones = {
        tone: [replace(p, y=whole.index(round(p.y)) + p.y - round(p.y)) for p in each]
        for tone, each in tones.items()
    }
    lines = [
        Series(tone, each, tone, line=False, named=False)
        for tone, each in reversed(tones.items())
        if each
    ]
    return chart(
        f"Trials of {method} by rate and depth", across, down, lines, height=70.0 + 55 * len(whole)
    )


def _jitter(number: int) -> float:
    return 0.24 * ((number * 0.618) % 1 - 0.5)


def _progress(run: Run, method: str) -> Markup | None:
    """Draw the best validation accuracy so far against the device-seconds of a cell's trials."""
    lines = []
    shown = [p for p in run.partitions if run.trials(p, method)]
    if len(shown) > MOST_LINES:
        shown = [shown[i] for i in np.linspace(0, len(shown) - 1, MOST_LINES).round().astype(int)]
    for place, partition in enumerate(shown):
        spent, best, points = 0.0, 0.0, list[Point]()
        for trial in sorted(run.trials(partition, method), key=lambda trial: trial.ended):
            spent += trial.seconds
            if not np.isfinite(trial.val_accuracy):
                continue
            title = f"{titled(partition)}, trial {trial.number} after {spent:.0f} s: "
            if points:
                points.append(Point(spent, points[-1].y, title=f"{title}{percent(best)} so far"))
            best = max(best, trial.val_accuracy)
            error = max(1 - best, LEAST_ERROR)
            points.append(Point(spent, error, title=f"{title}{percent(best)} at best"))
        if len(points) > 1:
            tone = TONES[place % len(TONES)]
            lines.append(Series(titled(partition), points, tone, marks=False))
    if not lines:
        return None
    across = linear(0.0, max(p.x for line in lines for p in line.points), "device-seconds")
    label = f"Best validation accuracy of {method} so far"
    return chart(label, across, errors_axis(lines), lines, height=320)


def _method(run: Run, method: str) -> dict[str, Any] | None:
    """Say what a method's search cost and saved, and what it brought over its default trial."""
    cost = sum((cost_of(run, partition, method) for partition in run.partitions), Cost())
    trials = [trial for partition in run.partitions for trial in run.trials(partition, method)]
    if not trials:
        return None
    gains = []
    for partition in run.partitions:
        winner = run.winner(partition, method)
        defaults = [t for t in run.trials(partition, method) if t.origin == "default"]
        if winner and defaults and np.isfinite(defaults[0].val_accuracy):
            gains.append(winner.val_accuracy - defaults[0].val_accuracy)
    several = len(trials) > len({trial.cell for trial in trials})
    return {
        "name": method,
        "trials": len(trials),
        "seconds": cost.search,
        "saved": percent(cost.saved / (cost.saved + cost.search), 0) if cost.search else "–",
        "gain": t_interval(gains).points("+") if gains and several else "–",
    }
