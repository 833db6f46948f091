"""Which images the page shows, and their thumbnails."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any

from markupsafe import Markup

from records import TEST, picture_path
from report.confusion import mistakes
from report.html.words import largest
from report.run import Run

MOST = 200  # images that a run keeps thumbnails of
ISSUES, PAIRS, MISTAKES = 80, 40, 40  # of each kind
BUDGET = 1_400_000  # characters of all thumbnails in a page


def wanted(run: Run) -> list[tuple[str, str]]:
    """Name the images to keep thumbnails of, as (split, key), at most 200.

    They are probably mislabelled, or have a duplicate, or are mistaken with most confidence.
    """
    issues = zip(run.label_issues["split"], run.label_issues["key"], strict=True)
    pairs = ranked_pairs(run)[:PAIRS]
    sides = (side for p in pairs for side in ((p.split_a, p.key_a), (p.split_b, p.key_b)))
    cell = largest(run)
    wrong = ((TEST, mistake.key) for mistake in (mistakes(run, cell) if cell else [])[:MISTAKES])
    found = dict.fromkeys(chain(islice(issues, ISSUES), sides, wrong))
    return [(str(split), str(key)) for split, key in islice(found, MOST)]


def ranked_pairs(run: Run) -> list[Any]:
    """Return the duplicates, those of two classes first, then those with a test image."""
    return sorted(
        run.duplicates.itertuples(index=False),
        key=lambda row: (row.class_a == row.class_b, TEST not in (row.split_a, row.split_b)),
    )


@dataclass
class Gallery:
    """Reads thumbnails for a page, until they fill its budget."""

    run: Run
    left: int = BUDGET
    read: dict[tuple[str, str], Markup] = field(default_factory=dict)

    def source(self, split: str, key: str) -> Markup:
        """Return a thumbnail as a data URI; empty if there is none, or no room for it."""
        if (split, key) not in self.read:
            self.read[split, key] = self._source(split, key)
        return self.read[split, key]

    def _source(self, split: str, key: str) -> Markup:
        folders = [run.directory for run in (self.run, *self.run.parts.values())]
        files = [picture_path(folder, split, key) for folder in folders]
        try:
            data = next(file for file in files if file.is_file()).read_bytes()
        except (OSError, StopIteration):
            return Markup()
        uri = f"data:image/webp;base64,{base64.b64encode(data).decode('ascii')}"
        if len(uri) > self.left:
            return Markup()
        self.left -= len(uri)
        return Markup(uri)  # base64, and no text from outside
