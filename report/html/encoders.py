"""Several encoders: what each takes to run, and what it reaches."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from report.encoders import EncoderRow, encoder_rows
from report.html.accuracy import errors_axis
from report.html.charts import Point, Series, chart, images_axis
from report.html.words import percent
from report.run import Run

GIGA = 1e9
LEAST_ERROR = 1e-3  # that is drawn


def encoders(run: Run) -> dict[str, Any] | None:
    """Draw each encoder's accuracy against its cost, with the front; None where there is one."""
    rows = encoder_rows(run)
    if not rows:
        return None
    front = Series("front", [_point(row) for row in rows if row.front], named=False)
    marks = [Series(row.name, [_point(row)], tone, line=False) for row, tone in _toned(rows)]
    across = images_axis([row.flops / GIGA for row in rows], "GFLOP an image")
    ticks = [(value, f"{value:.3g}") for value, _ in across.ticks]
    label = "Test accuracy of each encoder by the operations that an image takes"
    lines = [front, *marks]
    return {
        "chart": chart(label, replace(across, ticks=ticks), errors_axis(lines), lines),
        "rows": [
            {
                "name": row.name,
                "parameters": f"{row.parameters / 1e6:,.1f} M",
                "flops": f"{row.flops / GIGA:,.3g}",
                "rate": row.speed.images_per_second if row.speed else 0,
                "images": _rate(row.speed.images_per_second) if row.speed else "–",
                "device": row.speed.device if row.speed else "–",
                "method": row.method,
                "accuracy": percent(row.accuracy),
                "value": row.accuracy,
                "front": row.front,
            }
            for row in rows
        ],
    }


def _rate(images: float) -> str:
    """Write images a second to two figures at least."""
    return f"{images:,.0f}" if images >= 10 else f"{images:.2g}"


def _toned(rows: list[EncoderRow]) -> list[tuple[EncoderRow, str]]:
    """Give the encoders on the front the accent, and the others one tone."""
    return [(row, "accent" if row.front else "s1") for row in rows]


def _point(row: EncoderRow) -> Point:
    title = f"{row.name}, {row.method}: {percent(row.accuracy)}, {row.flops / GIGA:.3g} GFLOP"
    return Point(row.flops / GIGA, max(1 - row.accuracy, LEAST_ERROR), title=title)
