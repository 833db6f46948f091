"""What is probably wrong in the data: labels, duplicates, few or unreadable images."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd
from markupsafe import Markup

from records import LABEL_ISSUES, TEST
from report.confusion import class_names
from report.html.charts import bars
from report.html.words import counted, percent
from report.pictures import Gallery, ranked_pairs
from report.run import Run

FEW = 10  # training images of a class
MOST_BARS = 60
MOST_SKIPPED = 50
ISSUES, PAIRS = 40, 20  # that are shown


def data(run: Run, gallery: Gallery) -> dict[str, Any] | None:
    """Return label issues, duplicates, images per class and unreadable images; None without any."""
    found = {
        "issues": _issues(run, gallery),
        "issue_count": len(run.label_issues),
        "checked": (run.directory / LABEL_ISSUES.file).exists(),
        "pairs": _pairs(run, gallery),
        "pair_count": len(run.duplicates),
        "classes": _classes(run),
        "skipped": run.skipped.head(MOST_SKIPPED).to_dict("records"),
        "skipped_count": len(run.skipped),
    }
    return found if any(found.values()) else None


def _rows(table: pd.DataFrame) -> Iterator[Any]:
    """Yield a table's rows, with an attribute for each column."""
    yield from table.itertuples(index=False)


def _issues(run: Run, gallery: Gallery) -> list[dict[str, Any]]:
    return [
        row._asdict()
        | {
            "source": gallery.source(row.split, row.key),
            "given": percent(row.given_probability, 0),
            "other": percent(row.suggested_probability, 0),
        }
        for row in _rows(run.label_issues.head(ISSUES))
    ]


def _pairs(run: Run, gallery: Gallery) -> list[dict[str, Any]]:
    """Return duplicates, those that matter most first."""
    return [
        row._asdict()
        | {
            "sources": [
                gallery.source(row.split_a, row.key_a),
                gallery.source(row.split_b, row.key_b),
            ],
            "contradict": row.class_a != row.class_b,
        }
        for row in ranked_pairs(run)[:PAIRS]
    ]


def _classes(run: Run) -> dict[str, Any] | None:
    """Draw the images of each class; without `classes.csv` they are those of the test split."""
    counts, where = _counts(run)
    if counts.empty:
        return None
    ordered = counts.sort_values(ascending=False, kind="stable")
    few = ordered[ordered < FEW] if where == "training" else ordered[:0]
    shown = ordered if len(ordered) <= MOST_BARS else ordered.tail(MOST_BARS)
    rows = [(str(name), float(count), f"{count:,.0f}") for name, count in shown.items()]
    return {
        "where": where,
        "number": len(ordered),
        "cut": len(ordered) > MOST_BARS,
        "range": _range(ordered, where),
        "few": [
            *(f"{name} ({counted(count, 'image')})" for name, count in few.tail(MOST_BARS).items()),
            *([f"and {len(few) - MOST_BARS:,} more classes"] if len(few) > MOST_BARS else []),
        ],
        "bars": Markup(bars(f"{where} images of each class", rows)),
    }


def _range(ordered: pd.Series[float], where: str) -> str:
    """Say which class has the most images, and which the fewest."""
    most, least = (counted(float(ordered.iloc[end]), "image") for end in (0, -1))
    if most == least:
        return f"Each has {most} for {where}."
    first, last = ordered.index[0], ordered.index[-1]
    return f"The most {where} images has {first} ({most}), the fewest {last} ({least})."


def _counts(run: Run) -> tuple[pd.Series[float], str]:
    if not run.classes.empty:
        return run.classes.set_index("label")["train"], "training"
    names = class_names(run)
    labels = run.test_images.loc[run.test_images["set"] == TEST, "label"]
    return labels.map(lambda label: names[int(label)]).value_counts().astype(float), "test"
