"""This section says how many more images to label, and of which classes."""

from __future__ import annotations

from typing import Any

import numpy as np
from markupsafe import Markup

from partitions import Partition, titled
from report.confusion import confusion
from report.enough import comparable, images_of
from report.extrapolation import FEWEST, Forecast, forecast
from report.html.accuracy import accuracy_point, errors_axis
from report.html.charts import Point, Series, bars, chart, images_axis
from report.html.words import largest, percent
from report.intervals import Interval
from report.run import Run

AHEAD = (1.5, 2.0, 4.0)  # times the images that there are
NEXT = 10  # classes that are named
TONES = {"power law": "s1", "logarithmic": "s3", "exponential": "s4"}


def labelling(run: Run) -> dict[str, Any] | None:
    """Extend the accuracy of each row's best method, and rank classes; None without results."""
    cell = largest(run)
    if cell is None:
        return None
    points = {
        images_of(run, partition, run.best[partition]): (partition, scores.interval())
        for partition in comparable(run)
        if partition in run.best
        and (scores := run.scores(partition, run.best[partition]))
        and scores.interval().known  # one seed says nothing of how far a curve may bend
    }
    classes = _classes(run)
    found = _forecast(points, [float(times * max(points)) for times in AHEAD]) if points else None
    if found is None and classes is None:
        return None
    return {
        "few": len(points) < FEWEST,
        "points": len(points),
        "ahead": _ahead(found) if found else [],
        "chart": _chart(run, points) if found else None,
        "missed": _missed(points) if found else None,
        "classes": classes,
    }


Points = dict[int, tuple[Partition, Interval]]


def _forecast(points: Points, at: list[float]) -> Forecast | None:
    intervals = [interval for _, interval in points.values()]
    means = [interval.mean for interval in intervals]
    halves = [interval.half_width or 0.0 for interval in intervals]
    return forecast([*points], means, halves, at)


def _ahead(found: Forecast) -> list[dict[str, str]]:
    """Say what each family expects where there are more images."""
    return [
        {
            "times": f"{times:g} times as many",
            "images": f"{images:,.0f}",
            "families": ", ".join(
                f"{name} {percent(curve[place])}" for name, curve in found.curves.items()
            ),
            "span": f"{percent(found.low[place])} to {percent(found.high[place])}",
        }
        for place, (times, images) in enumerate(zip(AHEAD, found.images, strict=True))
    ]


def _missed(points: Points) -> str | None:
    """Say by how much the curves through all smaller rows miss the largest one."""
    last = max(points)
    found = _forecast({n: p for n, p in points.items() if n != last}, [float(last)])
    if found is None:
        return None
    truth = points[last][1].mean
    misses = ", ".join(
        f"{name} by {100 * abs(float(curve[0]) - truth):.1f}"
        for name, curve in found.curves.items()
    )
    return f"Fitted to the smaller rows alone, the curves miss the largest one (points): {misses}."


def _chart(run: Run, points: Points) -> Markup:
    """Draw the measured accuracies, and the curves with their spread to four times the images."""
    most = max(points)
    at = np.geomspace(min(points), AHEAD[-1] * most, 40)
    found = _forecast(points, [*map(float, at)])
    assert found is not None
    measured = [accuracy_point(run, p, run.best[p]) for p, _ in points.values()]
    floor = min(point.low or point.y for point in measured) / 2
    spread = [
        Point(n, max(1 - (a + b) / 2, floor), max(1 - b, floor), max(1 - a, floor))
        for n, a, b in zip(at, found.low, found.high, strict=True)
        if n >= most
    ]
    lines = [Series("", spread, "muted", line=False, marks=False, band=True, named=False)]
    for name, curve in found.curves.items():
        along = [Point(n, max(1 - e, floor)) for n, e in zip(at, curve, strict=True)]
        lines.append(Series(name, along, TONES[name], marks=False))
    lines.append(Series("measured", measured, "accent", line=False, named=False))
    across = images_axis([*points, *(times * most for times in AHEAD[1:])])
    return chart("Accuracy extended to more images", across, errors_axis(lines), lines, height=360)


def _classes(run: Run) -> dict[str, Any] | None:
    """Rank classes by the errors that they cause: low recall, weighted by their share."""
    cell = largest(run)
    found = confusion(run, cell) if cell else None
    if cell is None or found is None or not (missed := found.images - found.right).sum():
        return None
    shares = missed / missed.sum()
    order = [place for place in np.argsort(-shares, kind="stable")[:NEXT] if shares[place] > 0]
    rows = [
        (
            found.names[place],
            float(shares[place]),
            f"{percent(shares[place], 0)} of errors, "
            f"recall {percent(found.right[place] / found.images[place], 0)}",
        )
        for place in order
    ]
    return {
        "where": f"{cell.method} at {titled(cell.partition)}",
        "bars": bars("Shares of all errors", rows),
        "covered": percent(sum(share for _, share, _ in rows), 0),
        "number": len(rows),
        "all": len(rows) == int((missed > 0).sum()),
    }
