"""How far confidences can be believed, and what abstaining brings."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from markupsafe import Markup

from report.calibration import Confidences, confidences
from report.html.charts import Axis, Point, Series, chart, linear
from report.html.words import largest, percent, wilson
from report.run import Run
from report.winners import mean_of_known

GOALS = (0.9, 0.95, 0.98, 0.99, 0.995)  # accuracies for which a threshold is named
WIDTH = 460.0
FEWEST = 3  # images in a tenth that is drawn
TICKS = [(tenth / 5, f"{20 * tenth}%") for tenth in range(6)]


def calibration(run: Run) -> dict[str, Any] | None:
    """Draw reliability and coverage of the best method of the largest row; None without them."""
    cell = largest(run)
    raw = confidences(run, cell, calibrated=False) if cell else None
    if cell is None or raw is None:
        return None
    scaled = confidences(run, cell, calibrated=True)
    best = scaled or raw
    temperature = mean_of_known(fit.temperature for fit in run.final_fits(*cell))
    return {
        "method": cell.method,
        "before": percent(raw.error()),
        "after": percent(scaled.error()) if scaled else None,
        "temperature": f"{temperature:.2f}" if temperature is not None else None,
        "reliability": _reliability(raw, scaled),
        "coverage": _coverage(best),
        "goals": _goals(best),
        "accuracy": percent(float(best.right.mean())),
    }


def _reliability(raw: Confidences, scaled: Confidences | None) -> Markup:
    """Draw accuracy against confidence; on the diagonal, confidence is what it says."""
    lines = [Series("ideal", [Point(0, 0), Point(1, 1)], "zero", marks=False, named=False)]
    for name, found, tone in (("as it is", raw, "s1"), ("scaled", scaled, "accent")):
        points = [
            Point(
                each.confidence,
                each.accuracy,
                *wilson(each.accuracy * each.images, each.images),
                f"{name}: {percent(each.confidence)} sure, {percent(each.accuracy)} right "
                f"({each.images:,.0f} images)",
            )
            for each in (found.bins() if found else ())
            if each.images >= FEWEST
        ]
        if points:
            lines.append(Series(name, points, tone))
    axis = Axis(0, 1, TICKS, "confidence")
    return chart("Accuracy by confidence", axis, Axis(0, 1, TICKS), lines, width=WIDTH, dodge=2.0)


def _coverage(found: Confidences) -> Markup:
    """Draw the accuracy of the predictions that are sure enough against their share."""
    threshold, share, accuracy = found.coverage()
    kept = np.unique(np.searchsorted(share, np.linspace(0.02, 1, 60)).clip(max=share.size - 1))
    points = [
        Point(
            share[i],
            accuracy[i],
            title=f"answers {percent(share[i], 0)} at a threshold of {percent(threshold[i])}: "
            f"{percent(accuracy[i])} right",
        )
        for i in kept
    ]
    low = min(point.y for point in points)
    down = linear(100 * low - 0.5, 100.0, "", "%")
    scaled = [replace(point, y=100 * point.y) for point in points]
    across = Axis(0, 1, TICKS, "images answered")
    return chart(
        "Accuracy by coverage", across, down, [Series("", scaled, named=False)], width=WIDTH
    )


def _goals(found: Confidences) -> list[dict[str, str]]:
    """Name the lowest threshold that reaches each accuracy, and what it leaves unanswered."""
    threshold, share, accuracy = found.coverage()
    rows = []
    for goal in GOALS:
        if goal <= found.right.mean() or not (reached := np.flatnonzero(accuracy >= goal)).size:
            continue
        last = reached[-1]
        rows.append(
            {
                "goal": percent(goal),
                "threshold": percent(threshold[last]),
                "left": percent(1 - share[last]),
            }
        )
    return rows
