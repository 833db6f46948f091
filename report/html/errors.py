"""Where the best method errs: by class, by pair of classes, and image by image."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from partitions import titled
from records import TEST, Cell
from report.confusion import Confusion, confusion, mistakes
from report.html.charts import matrix
from report.html.words import counted, largest, percent, wilson
from report.pictures import Gallery
from report.run import Run

MOST_CLASSES = 40  # in a matrix
MOST_LISTED = 200  # classes in the table
MOST_PAIRS = 10
MISTAKES = 20  # that are shown
MOST_CELLS = 1200  # of the table of recalls by class and row


def errors(run: Run, gallery: Gallery) -> dict[str, Any] | None:
    """Return what the best method of the largest row gets wrong; None without results."""
    cell = largest(run)
    found = confusion(run, cell) if cell else None
    if cell is None or found is None:
        return None
    wrong = mistakes(run, cell)
    return {
        "cell": f"{cell.method} with {titled(cell.partition)} of the labels",
        "images": f"{found.images.sum():,.0f}",
        "wrong": f"{found.images.sum() - found.right.sum():,.1f}".removesuffix(".0"),
        "classes": _classes(found),
        "number": len(found.names),
        "matrix": _matrix(found) if len(found.names) <= MOST_CLASSES else None,
        "pairs": found.pairs()[:MOST_PAIRS],
        "rows": _recalls(run, found),
        "known": bool(wrong) and wrong[0].known,
        "mistakes": [
            {
                "source": gallery.source(TEST, mistake.key),
                "key": mistake.key,
                "label": mistake.label,
                "predicted": mistake.predicted,
                "confidence": percent(mistake.confidence, 0),
            }
            for mistake in wrong[:MISTAKES]
        ],
    }


def _classes(found: Confusion) -> list[dict[str, Any]]:
    """Return precision, recall and F1 of each class with intervals, the worst first.

    Those of precision and recall are Wilson's. That of F1 is Wilson's for the share of right
    images among all that are of the class or taken for it, F1 / (2 - F1), turned back.
    """
    rows: list[dict[str, Any]] = []
    for place, name in enumerate(found.names):
        right, images, taken = (
            float(values[place]) for values in (found.right, found.images, found.predicted)
        )
        union = images + taken - right
        shares = [(right, taken), (right, images), (right, union)]
        figures = [_share(*share) for share in shares]
        figures[2] = tuple(None if s is None else 2 * s / (1 + s) for s in figures[2])
        rows.append(
            {
                "name": name,
                "images": images,
                "figures": [
                    {
                        "value": value,
                        "text": _figure(value),
                        "span": f"{_figure(a)} to {_figure(b)}",
                    }
                    for value, a, b in figures
                ],
                "sort": 0.0 if figures[2][0] is None else figures[2][0],
            }
        )
    return sorted(rows, key=lambda row: row["sort"])[:MOST_LISTED]


def _share(right: float, n: float) -> tuple[float | None, ...]:
    return (right / n if n else None, *wilson(right, n))


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.0f}"


def _matrix(found: Confusion) -> Markup:
    table = found.table()
    shares = table / found.images.clip(min=1e-9)[:, None]
    titles = [
        [
            f"{a} taken for {b}: {counted(round(count, 1), 'image')} ({percent(share, 0)})"
            for b, count, share in zip(found.names, counts, row, strict=True)
        ]
        for a, counts, row in zip(found.names, table.tolist(), shares.tolist(), strict=True)
    ]
    return matrix("Confusion matrix", found.names, shares.tolist(), titles)


def _recalls(run: Run, last: Confusion) -> dict[str, Any] | None:
    """Return the recall of each class by the best method of each row."""
    rows: dict[str, dict[str, Any]] = {}
    if len(run.best) * len(last.names) > MOST_CELLS:
        return None
    for partition, method in run.best.items():
        if found := confusion(run, Cell(partition, method)):
            recall = dict(zip(found.names, found.right / found.images.clip(min=1e-9), strict=True))
            rows[titled(partition)] = recall
    if len(rows) < 2:
        return None
    classes = [
        (name, [float(recall.get(name, 0.0)) for recall in rows.values()])
        for name, images in zip(last.names, last.images, strict=True)
        if images
    ]
    return {"header": [*rows], "classes": classes}
